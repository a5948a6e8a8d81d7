//! The static that describes a service: its methods with their ids and fingerprints.

use proc_macro2::TokenStream;
use quote::quote;

use crate::service::{Codec, Method, Service};

impl Service {
    /// The static `ServiceInfo`, named after the service.
    #[must_use]
    pub fn table(&self) -> TokenStream {
        let Self {
            name,
            runtime,
            visibility,
            descriptors,
            ..
        } = self;
        let ident = self.table_ident();
        let methods = self.methods.iter().map(|method| self.entry(method));
        let doc = format!(" What is known about `{name}` without calling it.");
        quote! {
            #[doc = #doc]
            #[allow(dead_code)]
            #visibility static #ident: #runtime::ServiceInfo = #runtime::ServiceInfo {
                name: #name,
                methods: &[#(#methods),*],
                descriptors: #descriptors,
            };
        }
    }

    fn entry(&self, method: &Method) -> TokenStream {
        let runtime = &self.runtime;
        let name = self.wire_name(method);
        let kind = method.kind.name();
        let codec = method.codec.id();
        let schema = self.schema(method);
        let idempotent = method.idempotent.then(|| quote! { .idempotent() });
        quote! {
            #runtime::Method::new(#name, #runtime::Kind::#kind, #codec, #schema)#idempotent
        }
    }

    pub(crate) fn wire_name(&self, method: &Method) -> String {
        format!("{}/{}", self.name, method.name)
    }

    /// The fingerprint of a method's messages: plain structs have to agree, protobuf takes care of differences.
    fn schema(&self, method: &Method) -> TokenStream {
        if method.codec != Codec::Pod {
            return quote! { 0 };
        }
        let runtime = &self.runtime;
        let (request, response) = (&method.request.owned, &method.response.owned);
        quote! {
            #runtime::layout_hash(
                "",
                0,
                &[
                    ("request", "", <#request as #runtime::Layout>::HASH as usize),
                    ("response", "", <#response as #runtime::Layout>::HASH as usize),
                ],
            )
        }
    }
}
