//! From files to descriptors, by protox.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use buffa::Message;
use buffa_codegen::generated::descriptor::{FileDescriptorProto, FileDescriptorSet};
use protox::Compiler;
use protox::file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver};
use ringway_google::Google;

use crate::error::Error;
use crate::messages::told as told_by;

/// Whether a file says nothing but what options look like: it has no messages that a program needs.
pub(crate) fn is_annotation(name: &str) -> bool {
    matches!(
        name,
        "google/api/annotations.proto" | "google/api/http.proto"
    )
}

fn resolver(folders: &[PathBuf]) -> ChainFileResolver {
    let mut chain = ChainFileResolver::new();
    // A user's own copies count more.
    for folder in folders {
        chain.add(IncludeFileResolver::new(folder.clone()));
    }
    chain.add(Google);
    chain.add(GoogleFileResolver::new());
    chain
}

/// The files of a build with everything that they import.
pub(crate) struct Parsed {
    /// Imports before the files that need them.
    pub(crate) files: Vec<FileDescriptorProto>,
    /// Where files were found; the well-known ones are built in.
    pub(crate) paths: Vec<PathBuf>,
    /// Names of the compiled files and their paths, for messages.
    names: Vec<(String, PathBuf)>,
    #[cfg(feature = "prost")]
    pub(crate) prost: prost_types::FileDescriptorSet,
}

impl Parsed {
    pub(crate) fn read(protos: &[&Path], includes: &[PathBuf]) -> Result<Self, Error> {
        if protos.is_empty() {
            return Err(Error::Setting {
                setting: "compile".to_owned(),
                text: "got no files; name at least one `.proto`".to_owned(),
            });
        }
        let mut folders = includes.to_vec();
        if folders.is_empty() {
            for proto in protos {
                let folder = proto.parent().filter(|it| !it.as_os_str().is_empty());
                let folder = folder.unwrap_or_else(|| Path::new(".")).to_path_buf();
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
        }
        let told = |error: protox::Error| told(&error, &folders);
        let mut compiler = Compiler::with_file_resolver(resolver(&folders));
        compiler.include_source_info(true).include_imports(true);
        for proto in protos {
            if !proto.exists() {
                return Err(Error::Proto {
                    place: proto.display().to_string(),
                    text: "there is no such file; paths are relative to the package's folder"
                        .to_owned(),
                });
            }
            compiler.open_file(proto).map_err(told)?;
        }
        let found = compiler.files();
        let names = found.filter_map(|file| Some((file.name().to_owned(), file.path()?.into())));
        let names: Vec<(String, PathBuf)> = names.collect();
        let bytes = compiler.encode_file_descriptor_set();
        let paths = names.iter().map(|(_, path)| path.clone()).collect();
        Ok(Self {
            names,
            ..Self::decoded(&bytes, paths)?
        })
    }

    /// From a serialized `FileDescriptorSet` in a file.
    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let told = |text: String| Error::Proto {
            place: path.display().to_string(),
            text,
        };
        let parsed = Self::decoded(bytes, vec![path.to_path_buf()])
            .map_err(|error| told(format!("is no `FileDescriptorSet`: {error}")))?;
        let has = |name: &str| {
            parsed
                .files
                .iter()
                .any(|it| it.name.as_deref() == Some(name))
        };
        let needed = parsed.files.iter().flat_map(|file| &file.dependency);
        if let Some(missing) = needed.into_iter().find(|name| !has(name)) {
            return Err(told(format!(
                "lacks `{missing}`, which one of its files imports; write it with `--include_imports`"
            )));
        }
        Ok(parsed)
    }

    fn decoded(bytes: &[u8], paths: Vec<PathBuf>) -> Result<Self, Error> {
        let set = FileDescriptorSet::decode_from_slice(bytes).map_err(|error| told_by(&error))?;
        Ok(Self {
            files: set.file,
            paths,
            names: Vec::new(),
            #[cfg(feature = "prost")]
            prost: protox::prost::Message::decode(bytes).map_err(|error| told_by(&error))?,
        })
    }

    /// The descriptors of a package's services with all that they import, as reflection hands them out: of the
    /// source they keep comments only.
    pub(crate) fn descriptors(&self, package: &str) -> Vec<u8> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        // A file stands behind its imports.
        for file in self.files.iter().rev() {
            let name = file.name.as_deref().unwrap_or_default();
            let own = file.package.as_deref().unwrap_or_default() == package;
            if own && !file.service.is_empty() || wanted.contains(name) {
                wanted.insert(name);
                wanted.extend(file.dependency.iter().map(String::as_str));
            }
        }
        let files = self.files.iter();
        let files = files.filter(|file| wanted.contains(file.name.as_deref().unwrap_or_default()));
        let set = FileDescriptorSet {
            file: files.cloned().map(without_positions).collect(),
            ..FileDescriptorSet::default()
        };
        set.encode_to_vec()
    }

    /// Path and line of an element of a file, as compilers print them.
    pub(crate) fn place(&self, file: &FileDescriptorProto, element: &[i32]) -> String {
        let name = file.name.as_deref().unwrap_or_default();
        let path = self.names.iter().find(|(known, _)| known == name);
        let path = path.map_or_else(|| name.to_owned(), |(_, path)| path.display().to_string());
        let locations = file.source_code_info.location.iter();
        let line = locations
            .filter(|it| it.path == element)
            .find_map(|it| it.span.first());
        match line {
            Some(line) => format!("{path}:{}", line + 1),
            None => path,
        }
    }
}

fn without_positions(mut file: FileDescriptorProto) -> FileDescriptorProto {
    if let Some(source) = file.source_code_info.as_option_mut() {
        source.location.retain_mut(|location| {
            location.span.clear();
            location.leading_comments.is_some() || location.trailing_comments.is_some()
        });
    }
    file
}

/// protox prints `file:line:column: text` where it knows the place, with names relative to the folders.
fn told(error: &protox::Error, folders: &[PathBuf]) -> Error {
    let text = format!("{error:?}");
    let name = error.file().unwrap_or_default();
    let found = folders.iter().map(|folder| folder.join(name));
    let path = found
        .filter(|path| path.is_file())
        .find(|_| !name.is_empty());
    let path = path.map_or_else(|| name.to_owned(), |path| path.display().to_string());
    let rest = text
        .strip_prefix(name)
        .unwrap_or(&text)
        .trim_start_matches(':');
    let (place, text) = position(rest);
    let place = if place.is_empty() {
        path
    } else {
        format!("{path}:{place}")
    };
    let hint = if error.is_file_not_found() {
        let folders: Vec<String> = folders.iter().map(|it| it.display().to_string()).collect();
        let folders = folders.join(", ");
        format!("; looked in {folders}; name its root by `include`")
    } else {
        String::new()
    };
    Error::Proto {
        place,
        text: format!("{}{hint}", text.trim()),
    }
}

/// Splits `12:5: text`.
fn position(text: &str) -> (&str, &str) {
    let digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit()) && !text.is_empty();
    let mut end = 0;
    for part in text.split_inclusive(':') {
        if !digits(part.trim_end_matches(':')) {
            break;
        }
        end += part.len();
    }
    let (place, rest) = text.split_at(end);
    (place.trim_end_matches(':'), rest)
}
