//! From a trait to a service.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use ringway_codegen::{Form, Service};
use syn::{Attribute, Error, Expr, ItemTrait, Lit, Meta, Result, TraitItem};

use crate::arguments::Arguments;
use crate::method::{self, Receiver};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let arguments = Arguments::parse(arguments, &["package", "codec", "crate"])?;
    let mut item: ItemTrait = syn::parse2(item)?;
    if !item.generics.params.is_empty() {
        let text = "a service has no generics: its messages have to be known";
        return Err(Error::new_spanned(&item.generics, text));
    }
    let mut methods = Vec::new();
    let mut exclusive = None;
    for entry in &mut item.items {
        let TraitItem::Fn(function) = entry else {
            return Err(Error::new_spanned(entry, "a service has methods only"));
        };
        let (method, receiver) = method::read(function, &arguments)?;
        if receiver == Receiver::Exclusive {
            exclusive.get_or_insert_with(|| function.sig.clone());
        }
        methods.push(method);
    }
    let shared = methods.iter().any(|method| method.form == Form::Async);
    if let Some(signature) = exclusive.filter(|_| shared) {
        return Err(Error::new_spanned(
            &signature.inputs,
            "`&mut self` needs a trait without `async`, whose handlers run one after the other; take `&self` and \
             keep what changes in a `Cell` or `RefCell`",
        ));
    }
    let name = item.ident.to_string();
    let package = arguments.package.as_ref();
    let service = Service {
        name: package.map_or_else(|| name.clone(), |it| format!("{}.{name}", it.value())),
        ident: item.ident.clone(),
        docs: docs(&item.attrs),
        visibility: item.vis.to_token_stream(),
        runtime: arguments.runtime.clone(),
        descriptors: quote! { &[] },
        methods,
    };
    let (table, adapter, clients) = (service.table(), service.adapter(), service.clients());
    Ok(quote! {
        #[allow(async_fn_in_trait, dead_code)]
        #item
        #table
        #adapter
        #clients
    })
}

/// Lines of documentation.
pub(crate) fn docs(attributes: &[Attribute]) -> Vec<String> {
    let documented = attributes.iter().filter(|it| it.path().is_ident("doc"));
    let texts = documented.filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    let lines = texts.map(|text| text.strip_prefix(' ').unwrap_or(&text).to_owned());
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: TokenStream, item: TokenStream) -> String {
        match expand(arguments, item) {
            Ok(tokens) => unreachable!("it was taken: {tokens}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        let none = || quote! {};
        for (arguments, item, wanted) in [
            (
                quote! { packet = "x" },
                quote! { trait T {} },
                "there is no argument `packet`; there are `package`",
            ),
            (
                quote! { package = "a-b" },
                quote! { trait T {} },
                "a package is named like `market.v1`",
            ),
            (
                quote! { codec = Json },
                quote! { trait T {} },
                "there is no codec `Json`",
            ),
            (
                none(),
                quote! { trait T<X> {} },
                "a service has no generics",
            ),
            (
                none(),
                quote! { trait T { type X; } },
                "a service has methods only",
            ),
            (
                none(),
                quote! { trait T { fn f(q: &u8) -> Result<u8, Status>; } },
                "takes `&self`",
            ),
            (
                none(),
                quote! { trait T { async fn f(&mut self, q: u8) -> Result<u8, Status>; } },
                "takes `&self`",
            ),
            (
                none(),
                quote! { trait T { fn f<X>(&self, q: &X) -> Result<u8, Status>; } },
                "no generics",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: &u8) -> u8; } },
                "returns `Result<.., Status>`",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: &u8); } },
                "returns `Result<.., Status>`",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: u8) -> Result<u8, Status>; } },
                "takes its request by reference",
            ),
            (
                none(),
                quote! { trait T { async fn f(&self, q: &u8) -> Result<u8, Status>; } },
                "outlives the request",
            ),
            (
                none(),
                quote! { trait T { fn f(&self) -> Result<u8, Status>; } },
                "`&()` if it has none",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: &u8, r: &u8) -> Result<u8, Status>; } },
                "one request",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: Receiver<u8>) -> Result<u8, Status>; } },
                "make it `async fn`",
            ),
            (
                none(),
                quote! { trait T { async fn f(&self, q: u8, cx: CallContext) -> Result<u8, Status>; } },
                "comes first",
            ),
            (
                none(),
                quote! { trait T { async fn f(&self, s: Sender<u8>, q: u8) -> Result<(), Status>; } },
                "comes last",
            ),
            (
                none(),
                quote! { trait T { async fn f(&self, q: u8, s: Sender<u8>) -> Result<u8, Status>; } },
                "`Result<(), Status>`",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: &u8, r: Reply<'_, u8>) -> Result<u8, Status>; } },
                "`Result<Replied, Status>`",
            ),
            (
                none(),
                quote! { trait T { fn f(&self, q: &[u8]) -> Result<u64, Status>; } },
                "both have to be bytes",
            ),
            (
                none(),
                quote! { trait T {
                    fn f(&mut self, q: &u8) -> Result<u8, Status>;
                    async fn g(&self, q: u8) -> Result<u8, Status>;
                } },
                "`&mut self` needs a trait without `async`",
            ),
            (
                quote! { codec = Protobuf },
                quote! { trait T { fn f(&self, q: &Q) -> Result<R, Status>; } },
                "come from a `.proto`",
            ),
        ] {
            let text = refused(arguments, item.clone());
            assert!(text.contains(wanted), "{item}\n{text}\nlacks {wanted}");
        }
    }
}
