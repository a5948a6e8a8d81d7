//! `ringway call`: one call of any kind, by the names that the server's reflection tells.
//!
//! ```text
//! arguments, files ─┐                                    ┌─► standard output, one answer per line
//! standard input ───┴─► a thread ─► the call ─► this one ┴─► exit code by the status
//! ```

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ringway::block_on;
use ringway::rpc::{Incoming, Kind, Metadata, MetadataBuf, Method, Outgoing, Raw, Status};

use super::args;
use super::form::{self, Form};
use super::input::{self, Input};
use super::reflection::{self, MethodName, Reflection};
use super::remote::{PROTOBUF, Remote};
use crate::bench::figures::float;
use crate::failure::Failure;
use crate::output;

/// Makes the call.
pub(crate) fn run(arguments: &args::Call) -> Result<(), Failure> {
    let metadata = headers(&arguments.message.headers)?;
    let remote = Remote::new(&arguments.address, &arguments.reach)?;
    let wish = Wish {
        method: &arguments.method,
        message: &arguments.message,
        timeout: arguments.timeout,
        defaults: arguments.defaults,
    };
    let (method, name, form) = method(&wish, &remote)?;
    let input = Input::of(&arguments.data, &form, method.kind.client_streams())?;
    let mut options = remote.options(arguments.timeout);
    options.metadata = metadata.bytes();
    options.compress = arguments.message.compress;
    options.priority = arguments.priority;
    let began = Instant::now();
    let (out, answers) = match &input {
        Input::Given(messages) if !method.kind.client_streams() => {
            let first = messages.first().map(Vec::as_slice);
            remote.open(method, first.or(Some(&[])), &options)
        }
        _ => remote.open(method, None, &options),
    };
    if arguments.verbose {
        note(&format!("{name} at {}", remote.address()), &metadata.view());
    }
    let call = Conversation {
        name,
        form,
        verbose: arguments.verbose,
        broken: Arc::default(),
    };
    let sender = method
        .kind
        .client_streams()
        .then(|| call.send(input, out))
        .transpose()?;
    let received = call.receive(answers, method.kind)?;
    // It has nothing left to say, or waits for input that nobody wants any more.
    drop(sender);
    if arguments.verbose {
        let time = output::duration(float(
            u64::try_from(began.elapsed().as_nanos()).unwrap_or(0),
        ));
        output::note(format!("< OK, {received} messages in {time}"));
    }
    Ok(())
}

/// Which method a person means.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) method: &'a str,
    pub(crate) message: &'a args::Message,
    /// How long the server may take to describe it.
    pub(crate) timeout: Option<Duration>,
    /// Show fields that have their default value.
    pub(crate) defaults: bool,
}

/// Which method is meant, its full name, and how its messages are written.
pub(crate) fn method(wish: &Wish<'_>, remote: &Remote) -> Result<(Method, String, Form), Failure> {
    let name = MethodName::of(wish.method);
    let message = wish.message;
    let bytes = match (message.raw, message.hex) {
        (true, _) => Some(Form::Raw),
        (_, true) => Some(Form::Hex),
        _ => None,
    };
    if let Some(form) = bytes {
        if name.service.is_empty() {
            let text = format!("`{name}` names no service; write package.Service/Method");
            return Err(Failure::Usage(text));
        }
        let (kind, codec) = (message.kind.kind(), message.codec.id());
        let name = name.to_string();
        return Ok((Method::found(&name, kind, codec, 0), name, form));
    }
    let found = Reflection::open(remote, wish.timeout).method(&name)?;
    let kind = reflection::kind(&found);
    let form = Form::Json {
        input: found.input(),
        output: found.output(),
        defaults: wish.defaults,
        pretty: !kind.server_streams() && output::is_terminal(),
    };
    let name = name.to_string();
    Ok((Method::found(&name, kind, PROTOBUF, 0), name, form))
}

/// Metadata from `name: value`.
pub(crate) fn headers(given: &[String]) -> Result<MetadataBuf, Failure> {
    let mut metadata = MetadataBuf::new();
    for header in given {
        let wrong = |why: &str| Failure::Usage(format!("-H '{header}': {why}"));
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| wrong("write it as 'name: value'"))?;
        let (name, value) = (name.trim().to_lowercase(), value.trim());
        let value = if name.ends_with("-bin") {
            form::hex(value).map_err(|why| wrong(&why))?
        } else {
            value.as_bytes().to_vec()
        };
        metadata
            .add(&name, &value)
            .map_err(|error| wrong(&error.to_string()))?;
    }
    Ok(metadata)
}

/// A line on standard error, and the metadata below it.
fn note(what: &str, metadata: &Metadata<'_>) {
    output::note(format!("> {what}"));
    for entry in metadata.iter() {
        let value = match std::str::from_utf8(entry.value) {
            Ok(text) if !entry.name.ends_with("-bin") => text.to_owned(),
            _ => form::to_hex(entry.value),
        };
        output::note(format!("    {}: {value}", entry.name));
    }
}

/// What both sides of a call share.
#[derive(Clone, Debug)]
struct Conversation {
    name: String,
    form: Form,
    verbose: bool,
    broken: Arc<Broken>,
}

/// Why the client's stream can't go on: the call is given up then, not ended as if it were complete.
#[derive(Debug, Default)]
struct Broken(Mutex<(Option<Failure>, Option<Waker>)>);

impl Broken {
    fn lock(&self) -> MutexGuard<'_, (Option<Failure>, Option<Waker>)> {
        // Two assignments: nobody can leave them half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, failure: Failure) {
        let waker = {
            let mut state = self.lock();
            state.0 = Some(failure);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self, cx: &Context<'_>) -> Option<Failure> {
        let mut state = self.lock();
        state.1 = Some(cx.waker().clone());
        state.0.take()
    }
}

impl Conversation {
    /// Sends the client's stream from a thread of its own.
    fn send(
        &self,
        input: Input,
        mut out: Outgoing<Raw, [u8]>,
    ) -> Result<std::thread::JoinHandle<()>, Failure> {
        let call = self.clone();
        let work = move || {
            // An error of sending means that the call is over; its end tells why.
            let mut send = |message: &[u8]| {
                if call.verbose {
                    output::note(format!("> {} bytes", message.len()));
                }
                out.send_wait(message).is_ok()
            };
            let sent = match input {
                Input::Given(messages) => {
                    let _over = messages.iter().all(|message| send(message));
                    Ok(())
                }
                Input::Lines => input::lines(&call.form, send),
            };
            match sent {
                Ok(()) => out.finish(),
                Err(failure) => {
                    call.broken.set(failure);
                    // Dropped, it would tell the server that the stream is complete.
                    std::thread::park();
                }
            }
        };
        std::thread::Builder::new()
            .name("requests".to_owned())
            .spawn(work)
            .map_err(Failure::system("start a thread"))
    }

    /// Shows the answers until the call ends; how many came.
    fn receive(&self, mut answers: Incoming<Raw, Vec<u8>>, kind: Kind) -> Result<u64, Failure> {
        if !kind.server_streams() {
            let answer = self.wait(answers.answer())?;
            if self.verbose {
                note("answer", &answer.metadata());
            }
            self.show(answer.bytes())?;
            return Ok(1);
        }
        let mut count = 0;
        while let Some(message) = self.wait(answers.next())? {
            count += 1;
            self.show(&message)?;
        }
        Ok(count)
    }

    fn show(&self, message: &[u8]) -> Result<(), Failure> {
        output::bytes_line(&self.form.show(&self.name, message)?)
    }

    /// Waits for something of the call, or until the client's stream broke.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Failure> {
        let mut work = pin!(work);
        block_on(std::future::poll_fn(|cx| {
            if let Some(failure) = self.broken.take(cx) {
                return Poll::Ready(Err(failure));
            }
            let done = std::task::ready!(work.as_mut().poll(cx));
            Poll::Ready(done.map_err(|status| Failure::call(&self.name, status)))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_named_values_and_binary_ones_hexadecimal() {
        let given = ["Tenant: blue".to_owned(), "trace-bin:0x01ff".to_owned()];
        let metadata = headers(&given).unwrap();
        assert_eq!(metadata.view().named("tenant"), Some(&b"blue"[..]));
        assert_eq!(metadata.view().named("trace-bin"), Some(&[1, 255][..]));
        for bad in ["novalue", ": x", "a-bin: xyz"] {
            let failure = headers(&[bad.to_owned()]).unwrap_err();
            assert!(matches!(failure, Failure::Usage(_)), "{bad}: {failure}");
        }
    }
}
