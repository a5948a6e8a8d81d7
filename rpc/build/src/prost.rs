//! Messages by prost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use proc_macro2::TokenStream;
use prost_build::{Config, Module, Service, ServiceGenerator};
use ringway_codegen::{Codec, Message};

use crate::error::Error;
use crate::messages::{Generated, Types, is_extern, told};
use crate::parse::Parsed;

/// Learns from prost what it calls the messages of methods; services themselves are generated elsewhere.
#[derive(Default)]
struct Names {
    known: Rc<RefCell<BTreeMap<(String, String), String>>>,
}

impl ServiceGenerator for Names {
    fn generate(&mut self, service: Service, _text: &mut String) {
        let mut known = self.known.borrow_mut();
        for method in service.methods {
            let package = service.package.clone();
            known.insert(
                (package.clone(), method.input_proto_type),
                method.input_type,
            );
            known.insert((package, method.output_proto_type), method.output_type);
        }
    }
}

pub(crate) fn generate(
    parsed: &Parsed,
    externs: &[(String, String)],
    runtime: &str,
) -> Result<Generated, Error> {
    let names = Names::default();
    let known = Rc::clone(&names.known);
    let mut config = Config::new();
    config.prost_path(format!("{runtime}::generated::prost"));
    config.prost_types_path(format!("{runtime}::generated::prost_types"));
    config.service_generator(Box::new(names));
    for (proto, rust) in externs {
        config.extern_path(proto, rust);
    }
    let mut requests = Vec::new();
    let mut modules = BTreeMap::new();
    for (file, described) in parsed.prost.file.iter().zip(&parsed.files) {
        if is_extern(described, externs) {
            continue;
        }
        let module = Module::from_protobuf_package_name(file.package());
        modules.insert(file.package().to_owned(), path(&module));
        requests.push((module, file.clone()));
    }
    let generated = config.generate(requests).map_err(|error| told(&error))?;
    // Sorted: what comes out of a hash map has another order each time.
    let generated: BTreeMap<Module, String> = generated.into_iter().collect();
    let mut items = Vec::new();
    for (module, text) in &generated {
        let tokens = text.parse::<TokenStream>();
        items.push((path(module), tokens.map_err(|error| told(&error))?));
    }
    let mut types = BTreeMap::new();
    for (key, name) in known.borrow().iter() {
        let tokens = name.parse::<TokenStream>();
        let tokens = tokens.map_err(|error| told(&error))?;
        let message = Message {
            owned: tokens.clone(),
            borrowed: tokens.clone(),
            view: tokens,
        };
        types.insert(key.clone(), message);
    }
    Ok(Generated {
        modules,
        items,
        types: Types {
            codec: Codec::Prost,
            known: types,
        },
    })
}

/// A module as dotted names.
fn path(module: &Module) -> String {
    let parts = module.parts().map(|part| part.trim_start_matches("r#"));
    parts.collect::<Vec<_>>().join(".")
}
