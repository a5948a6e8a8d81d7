//! From descriptors to services.

use std::collections::BTreeSet;

use buffa_codegen::generated::descriptor::method_options::IdempotencyLevel;
use buffa_codegen::generated::descriptor::{
    FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};
use proc_macro2::{Literal, TokenStream};
use quote::quote;
use ringway_codegen::{Form, Kind, Method, Service, ident, snake_case};

use crate::c_header::{Contents, MethodLine};
use crate::comments;
use crate::error::Error;
use crate::messages::Types;
use crate::parse::Parsed;

/// Numbers of fields in descriptors, which paths of source positions are made of.
const SERVICE: i32 = 6;
const METHOD: i32 = 2;

/// How services are generated.
pub(crate) struct Services<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) plain: &'a [String],
    pub(crate) runtime: &'a TokenStream,
}

impl Services<'_> {
    /// Services by package, in the order of their files.
    pub(crate) fn generate(&self, types: &Types) -> Result<Vec<(String, TokenStream)>, Error> {
        self.check_plain()?;
        let mut all = Vec::new();
        let mut described = BTreeSet::new();
        for file in &self.parsed.files {
            let package = file.package.clone().unwrap_or_default();
            if !file.service.is_empty() && described.insert(package.clone()) {
                let bytes = Literal::byte_string(&self.parsed.descriptors(&package));
                let shared = quote! {
                    /// A serialized `FileDescriptorSet`: the services of this package and what they need.
                    const RINGWAY_DESCRIPTORS: &[u8] = #bytes;
                };
                all.push((package.clone(), shared));
            }
            for (index, service) in (0_i32..).zip(&file.service) {
                let service = self.service(file, service, index, types)?;
                all.push((package.clone(), service.tokens()));
            }
        }
        Ok(all)
    }

    fn service(
        &self,
        file: &FileDescriptorProto,
        service: &ServiceDescriptorProto,
        index: i32,
        types: &Types,
    ) -> Result<Service, Error> {
        let name = service.name.clone().unwrap_or_default();
        let full = full_name(file, &name);
        let mut methods = Vec::new();
        let mut taken = BTreeSet::new();
        for (number, method) in (0_i32..).zip(&service.method) {
            let element = [SERVICE, index, METHOD, number];
            let place = || self.parsed.place(file, &element);
            let built = self.method(&full, method, types, &place)?;
            if !taken.insert(built.ident.to_string()) {
                return Err(Error::Proto {
                    place: place(),
                    text: format!(
                        "`{full}/{}` and an earlier method are both `{}` in Rust; rename one of them",
                        built.name, built.ident
                    ),
                });
            }
            methods.push(Method {
                docs: comments::of(file, &element),
                ..built
            });
        }
        Ok(Service {
            name: full,
            ident: ident(&name),
            docs: comments::of(file, &[SERVICE, index]),
            visibility: quote! { pub },
            runtime: self.runtime.clone(),
            descriptors: quote! { RINGWAY_DESCRIPTORS },
            methods,
        })
    }

    fn method(
        &self,
        service: &str,
        method: &MethodDescriptorProto,
        types: &Types,
        place: &dyn Fn() -> String,
    ) -> Result<Method, Error> {
        let name = method.name.clone().unwrap_or_default();
        let kind = Kind::of(
            method.client_streaming.unwrap_or_default(),
            method.server_streaming.unwrap_or_default(),
        );
        let full = format!("{service}/{name}");
        let named = self.plain.contains(&full);
        if named && kind != Kind::Unary {
            return Err(Error::Proto {
                place: place(),
                text: format!(
                    "`{full}` streams, and only unary methods can be plain functions; take it out of `plain`"
                ),
            });
        }
        let by_service = self.plain.iter().any(|it| it == service) && kind == Kind::Unary;
        let form = if named || by_service {
            Form::Plain
        } else {
            Form::Async
        };
        let package = service.rsplit_once('.').map_or("", |(package, _)| package);
        let message = |name: &Option<String>| {
            let name = name.clone().unwrap_or_default();
            let found = types.known.get(&(package.to_owned(), name.clone()));
            found.cloned().ok_or_else(|| Error::Proto {
                place: place(),
                text: format!(
                    "no Rust type is known for `{name}`; import its file, or name its `extern_path`"
                ),
            })
        };
        Ok(Method {
            ident: ident(&snake_case(&name)),
            docs: Vec::new(),
            kind,
            form,
            context: true,
            by_reference: false,
            codec: types.codec,
            request: message(&method.input_type)?,
            response: message(&method.output_type)?,
            idempotent: is_idempotent(method),
            name,
        })
    }

    /// What is named plain has to exist.
    fn check_plain(&self) -> Result<(), Error> {
        let mut known = Vec::new();
        for file in &self.parsed.files {
            for service in &file.service {
                let full = full_name(file, service.name.as_deref().unwrap_or_default());
                let methods = service.method.iter();
                let methods = methods.map(|it| it.name.as_deref().unwrap_or_default());
                known.extend(methods.map(|method| format!("{full}/{method}")));
                known.push(full);
            }
        }
        for name in self.plain {
            if !known.contains(name) {
                return Err(Error::Setting {
                    setting: format!("plain({name:?})"),
                    text: format!(
                        "names no service and no method; there are {}",
                        known.join(", ")
                    ),
                });
            }
        }
        Ok(())
    }
}

fn full_name(file: &FileDescriptorProto, name: &str) -> String {
    match file.package.as_deref() {
        None | Some("") => name.to_owned(),
        Some(package) => format!("{package}.{name}"),
    }
}

fn is_idempotent(method: &MethodDescriptorProto) -> bool {
    let options = method.options.as_option();
    let level = options.and_then(|it| it.idempotency_level);
    matches!(
        level,
        Some(IdempotencyLevel::IDEMPOTENT | IdempotencyLevel::NO_SIDE_EFFECTS)
    )
}

/// What a C header says of all services.
pub(crate) fn constants(parsed: &Parsed) -> Contents {
    let mut contents = Contents::default();
    for file in &parsed.files {
        for service in &file.service {
            let full = full_name(file, &service.name.clone().unwrap_or_default());
            for method in &service.method {
                let streams = |on: Option<bool>, bit| if on.unwrap_or_default() { bit } else { 0 };
                contents.methods.push(MethodLine {
                    service: full.clone(),
                    name: method.name.clone().unwrap_or_default(),
                    kind: streams(method.client_streaming, 1) | streams(method.server_streaming, 2),
                    // RW_CODEC_PROTOBUF, which needs no fingerprint.
                    codec: 1,
                    schema: 0,
                    idempotent: is_idempotent(method),
                    messages: None,
                });
            }
        }
    }
    contents
}
