//! One module per package, nested as the packages are.

use std::collections::BTreeMap;

use proc_macro2::TokenStream;
use quote::quote;
use ringway_codegen::ident;

/// A module with those inside.
#[derive(Default)]
pub(crate) struct Tree {
    items: TokenStream,
    inner: BTreeMap<String, Self>,
}

impl Tree {
    /// What stands in the module of a package.
    pub(crate) fn at(&mut self, package: &str) -> &mut TokenStream {
        let mut module = self;
        for segment in package.split('.').filter(|segment| !segment.is_empty()) {
            module = module.inner.entry(segment.to_owned()).or_default();
        }
        &mut module.items
    }

    /// The modules of all packages; what has no package stands beside them.
    pub(crate) fn tokens(&self) -> TokenStream {
        let modules = self.modules();
        if self.items.is_empty() {
            return modules;
        }
        // Attributes need a module to stand at.
        let (items, allow) = (&self.items, allow());
        quote! {
            #allow
            mod no_package {
                use super::*;
                #items
            }
            pub use no_package::*;
            #modules
        }
    }

    fn modules(&self) -> TokenStream {
        let allow = allow();
        let modules = self.inner.iter().map(|(name, module)| {
            let (name, items, inner) = (ident(name), &module.items, module.modules());
            quote! {
                #allow
                pub mod #name { #items #inner }
            }
        });
        quote! { #(#modules)* }
    }
}

/// Nobody reads generated code for its style.
fn allow() -> TokenStream {
    quote! {
        #[allow(
            clippy::all,
            clippy::nursery,
            clippy::pedantic,
            clippy::restriction,
            elided_lifetimes_in_paths,
            let_underscore_drop,
            missing_debug_implementations,
            missing_docs,
            rustdoc::all,
            unnameable_types,
            unreachable_pub,
            unused_lifetimes,
            unused_qualifications,
            warnings
        )]
    }
}
