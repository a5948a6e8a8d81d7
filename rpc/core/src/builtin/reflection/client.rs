//! What a server says about its services.

use std::collections::BTreeMap;

use ringway_call::{Code, Status};

use super::{INFO, field, messages, texts};
use crate::builtin::proto::{Fields, Value, Writer, is_whole};
use crate::{CallOptions, Channel, Incoming, Outgoing, Raw};

/// Services that a server may name, and files that it may describe.
const DESCRIBED_MAX: usize = 10_000;
/// Bytes of all those files together.
const BYTES_MAX: usize = 64 << 20;

/// A conversation with a server's `grpc.reflection.v1.ServerReflection`, and the files that it has told so far:
/// at most 10,000 of 64 MiB in all. Its calls block for the answers.
///
/// ```no_run
/// use core::time::Duration;
/// use ringway_rpc::{CallOptions, Channel, Reflection};
///
/// let channel = Channel::connect("tcp://127.0.0.1:7400")?;
/// let options = CallOptions::timeout(Duration::from_secs(5));
/// let mut server = Reflection::open(&channel, &options);
/// for service in server.services()? {
///     server.learn(&service)?;
/// }
/// let set = server.descriptors(|_import| None)?;
/// # let _ = set;
/// # Ok::<(), ringway_rpc::Status>(())
/// ```
#[derive(Debug)]
pub struct Reflection {
    out: Outgoing<Raw, [u8]>,
    answers: Incoming<Raw, Vec<u8>>,
    files: BTreeMap<String, File>,
    bytes: usize,
}

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    imports: Vec<String>,
}

impl Reflection {
    /// Opens the conversation; it ends when the timeout of `options` is over. Whether the server can be reached, and
    /// has reflection at all ([`Code::Unimplemented`]), is told by the first answer.
    #[must_use]
    pub fn open(channel: &Channel, options: &CallOptions<'_>) -> Self {
        let (out, answers) = channel.open(INFO.methods, 0, None, false, options);
        Self {
            out,
            answers,
            files: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Names of all services, in order.
    ///
    /// # Errors
    /// How the call ended; [`Code::ResourceExhausted`]: there are more than 10,000.
    pub fn services(&mut self) -> Result<Vec<String>, Status> {
        let answer = self.ask(field::LIST_SERVICES, "")?;
        refusal(&answer)?;
        let list = messages(&answer, field::LIST_SERVICES_RESPONSE);
        let services = list.flat_map(|list| messages(list, 1));
        let mut names: Vec<String> = services
            .filter_map(|service| texts(service, 1).next())
            .map(ToOwned::to_owned)
            .collect();
        if names.len() > DESCRIBED_MAX {
            return Err(too_many("services"));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Learns the file that defines a symbol, with the imports that the server tells along; false if it knows none.
    ///
    /// # Errors
    /// How the call ended, or the server's refusal; [`Code::ResourceExhausted`]: it has told too much.
    pub fn learn(&mut self, symbol: &str) -> Result<bool, Status> {
        self.learn_by(field::FILE_CONTAINING_SYMBOL, symbol)
    }

    /// All files that were learned, as a serialized `FileDescriptorSet`. For what they import and nobody has told yet
    /// the server is asked; what it does not know, `known` gives as a serialized `FileDescriptorProto`, or `None`.
    ///
    /// # Errors
    /// As of [`learn`](Self::learn); [`Code::NotFound`]: an imported file is known to nobody.
    pub fn descriptors(
        &mut self,
        known: impl Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Status> {
        while let Some(missing) = self.missing() {
            if self.learn_by(field::FILE_BY_FILENAME, &missing)?
                && self.files.contains_key(&missing)
            {
                continue;
            }
            let text = || format!("the server describes no file `{missing}`");
            let file = known(&missing).ok_or_else(|| Status::new(Code::NotFound, &text()))?;
            let imports = imports(&file);
            self.keep(missing, file, imports)?;
        }
        let files = self.files.values();
        let set = files.fold(Writer::default(), |set, file| set.bytes(1, &file.bytes));
        Ok(set.0)
    }

    fn missing(&self) -> Option<String> {
        let imports = self.files.values().flat_map(|file| &file.imports);
        let mut missing = imports.filter(|name| !self.files.contains_key(*name));
        missing.next().cloned()
    }

    fn ask(&mut self, field: u64, text: &str) -> Result<Vec<u8>, Status> {
        let question = Writer::default().bytes(field, text.as_bytes()).0;
        // If the call is over, its end tells why.
        let _over: Result<(), Status> = self.out.send_wait(&question);
        let answer = self.answers.next_wait()?;
        let answer = answer.ok_or(Status::of(
            Code::Unavailable,
            "the server ended the conversation",
        ))?;
        if is_whole(&answer) {
            Ok(answer)
        } else {
            Err(undecodable())
        }
    }

    fn learn_by(&mut self, field: u64, text: &str) -> Result<bool, Status> {
        let answer = self.ask(field, text)?;
        match refusal(&answer) {
            Err(status) if status.code == Code::NotFound => return Ok(false),
            told => told?,
        }
        let list = messages(&answer, field::FILE_DESCRIPTOR_RESPONSE);
        for file in list.flat_map(|list| messages(list, 1)) {
            if !is_whole(file) {
                return Err(undecodable());
            }
            let name = texts(file, field::FILE_NAME).next().unwrap_or("");
            if !self.files.contains_key(name) {
                self.keep(name.to_owned(), file.to_vec(), imports(file))?;
            }
        }
        Ok(true)
    }

    fn keep(&mut self, name: String, bytes: Vec<u8>, imports: Vec<String>) -> Result<(), Status> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.files.len() == DESCRIBED_MAX {
            return Err(too_many("files"));
        }
        if self.bytes > BYTES_MAX {
            let text = format!("the server's files have more than {BYTES_MAX} bytes");
            return Err(Status::new(Code::ResourceExhausted, &text));
        }
        self.files.insert(name, File { bytes, imports });
        Ok(())
    }
}

fn imports(file: &[u8]) -> Vec<String> {
    let imports = texts(file, field::FILE_DEPENDENCY);
    imports.map(ToOwned::to_owned).collect()
}

/// The server's refusal, if that is its answer.
fn refusal(answer: &[u8]) -> Result<(), Status> {
    let Some(error) = messages(answer, field::ERROR_RESPONSE).last() else {
        return Ok(());
    };
    let code = Fields(error).find_map(|(field, value)| match value {
        Value::Number(code) if field == 1 => u16::try_from(code).ok(),
        _ => None,
    });
    let code = code.map(Code::from_wire).filter(|it| *it != Code::Ok);
    let code = code.unwrap_or(Code::Unknown);
    let text = texts(error, 2).next().unwrap_or("");
    Err(Status::new(code, text))
}

fn undecodable() -> Status {
    Status::of(Code::Internal, "the answer can't be decoded")
}

fn too_many(what: &str) -> Status {
    let text = format!("the server describes more than {DESCRIBED_MAX} {what}");
    Status::new(Code::ResourceExhausted, &text)
}
