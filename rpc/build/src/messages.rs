//! Messages by a library of the user's choice, and what services have to know of them: the names of types.

use std::collections::{BTreeMap, BTreeSet};

use buffa_codegen::context::CodeGenContext;
use buffa_codegen::generated::descriptor::FileDescriptorProto;
use buffa_codegen::idents::rust_path_to_tokens;
use buffa_codegen::{CodeGenConfig, GeneratedFileKind, generate};
use proc_macro2::TokenStream;
use quote::quote;
use ringway_codegen::{Codec, Message};

use crate::error::Error;
use crate::parse::{Parsed, is_annotation};

/// Who generates messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    /// Borrowed views beside owned messages.
    Buffa,
    /// Owned messages.
    #[cfg(feature = "prost")]
    Prost,
}

/// How messages are generated.
pub(crate) struct Messages<'a> {
    pub(crate) library: Library,
    pub(crate) externs: &'a [(String, String)],
    pub(crate) keeps_unknown_fields: bool,
    #[cfg_attr(
        not(feature = "prost"),
        expect(dead_code, reason = "prost alone has to be told")
    )]
    pub(crate) runtime: &'a str,
}

/// Messages by module, and the names of their types.
pub(crate) struct Generated {
    /// The module of each package, where it is called otherwise.
    pub(crate) modules: BTreeMap<String, String>,
    /// What stands in each module.
    pub(crate) items: Vec<(String, TokenStream)>,
    pub(crate) types: Types,
}

/// How services name the messages of their methods.
pub(crate) struct Types {
    pub(crate) codec: Codec,
    /// By the package that names it and the full name of the message.
    pub(crate) known: BTreeMap<(String, String), Message>,
}

impl Messages<'_> {
    pub(crate) fn generate(&self, parsed: &Parsed) -> Result<Generated, Error> {
        match self.library {
            Library::Buffa => self.by_buffa(parsed),
            #[cfg(feature = "prost")]
            Library::Prost => crate::prost::generate(parsed, self.externs, self.runtime),
        }
    }

    fn by_buffa(&self, parsed: &Parsed) -> Result<Generated, Error> {
        let mut config = CodeGenConfig::default();
        config.file_per_package = true;
        config.emit_register_fn = false;
        config.preserve_unknown_fields = self.keeps_unknown_fields;
        config.extern_paths = self.externs.to_vec();
        let wanted: Vec<String> = parsed
            .files
            .iter()
            .filter(|file| !is_extern(file, self.externs))
            .filter_map(|file| file.name.clone())
            .collect();
        let files = generate(&parsed.files, &wanted, &config).map_err(|error| told(&error))?;
        let mut items = Vec::new();
        for file in files {
            if file.kind != GeneratedFileKind::PackageMod {
                continue;
            }
            let tokens = file.content.parse::<TokenStream>();
            let tokens = tokens.map_err(|error| told(&error))?;
            items.push((file.package, tokens));
        }
        let context = CodeGenContext::for_generate(&parsed.files, &wanted, &config);
        let mut known = BTreeMap::new();
        for (package, name) in named_by_services(parsed) {
            if let Some(message) = buffa_message(&context, &package, &name) {
                known.insert((package, name), message);
            }
        }
        let types = Types {
            codec: Codec::Protobuf,
            known,
        };
        Ok(Generated {
            modules: BTreeMap::new(),
            items,
            types,
        })
    }
}

fn buffa_message(context: &CodeGenContext<'_>, package: &str, name: &str) -> Option<Message> {
    let path = context.rust_type_relative(name, package, 0)?;
    let owned = rust_path_to_tokens(&path);
    let split = context.rust_type_relative_split(name, package, 0)?;
    let view = format!("__buffa::view::{}View", split.within_package);
    let view = match split.to_package.as_str() {
        "" => view,
        package => format!("{package}::{view}"),
    };
    let view = rust_path_to_tokens(&view);
    Some(Message {
        borrowed: owned.clone(),
        owned,
        view: quote! { #view<'_> },
    })
}

/// Every message of a method, with the package of the service.
fn named_by_services(parsed: &Parsed) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for file in &parsed.files {
        let package = file.package.clone().unwrap_or_default();
        for method in file.service.iter().flat_map(|service| &service.method) {
            for name in [&method.input_type, &method.output_type] {
                all.insert((package.clone(), name.clone().unwrap_or_default()));
            }
        }
    }
    all
}

/// Files whose types are elsewhere: the well-known ones, and packages that the user named.
pub(crate) fn is_extern(file: &FileDescriptorProto, externs: &[(String, String)]) -> bool {
    if is_annotation(file.name.as_deref().unwrap_or_default()) {
        return true;
    }
    let package = file.package.as_deref().unwrap_or_default();
    let full = format!(".{package}");
    package == "google.protobuf"
        || externs.iter().any(|(proto, _)| {
            let inner = full.strip_prefix(proto.as_str());
            inner.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

pub(crate) fn told(error: &dyn core::fmt::Display) -> Error {
    Error::Messages {
        text: error.to_string(),
    }
}
