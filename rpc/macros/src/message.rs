//! From a struct to a message of plain bytes.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, Field, Fields, ItemStruct, Result, Type};

use crate::arguments::Arguments;

/// Numbers whose layout is their name.
const NUMBERS: &[&str] = &[
    "u8", "u16", "u32", "u64", "u128", "i8", "i16", "i32", "i64", "i128", "f32", "f64",
];

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let runtime = Arguments::parse(arguments, &["crate"])?.runtime;
    let item: ItemStruct = syn::parse2(item.clone()).map_err(|_other| {
        let text = "a message is a struct; an enum has values that bytes may lack: use an integer";
        Error::new_spanned(&item, text)
    })?;
    if !item.generics.params.is_empty() {
        let text = "a message has no generics: its layout has to be known";
        return Err(Error::new_spanned(&item.generics, text));
    }
    for field in &item.fields {
        check(field)?;
    }
    let name = &item.ident;
    let bytemuck = quote! { #runtime::generated::bytemuck };
    let path = bytemuck.to_string().replace(' ', "");
    let repr = (!has_repr(&item)?).then(|| quote! { #[repr(C)] });
    let clone = (!derives(&item, "Clone")).then(|| quote! { ::core::clone::Clone, });
    let copy = (!derives(&item, "Copy")).then(|| quote! { ::core::marker::Copy, });
    let padding = padding(&item);
    let layout = layout(&item, &runtime);
    Ok(quote! {
        #[derive(#clone #copy #bytemuck::Pod, #bytemuck::Zeroable)]
        #[bytemuck(crate = #path)]
        #repr
        #item

        #padding

        impl #runtime::Layout for #name {
            const HASH: u32 = #layout;
        }
    })
}

/// A field that can't be plain bytes, told before the compiler tells it in its own words.
fn check(field: &Field) -> Result<()> {
    let kind = element(&field.ty);
    let text = match kind {
        Type::Reference(_) | Type::Ptr(_) | Type::Slice(_) => {
            "what lies elsewhere in memory can't be sent; use an array"
        }
        Type::Path(path) => match path.path.segments.last() {
            Some(last) => match last.ident.to_string().as_str() {
                "bool" | "char" => "it has values that bytes may lack; use an integer",
                "usize" | "isize" => "its size differs between machines; use `u64` or `i64`",
                "String" | "Vec" | "Box" | "Option" => {
                    "it is no plain bytes; use an array and a length, or define the message in a `.proto`"
                }
                _ => return Ok(()),
            },
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    Err(Error::new_spanned(&field.ty, text))
}

/// The innermost type of arrays.
fn element(kind: &Type) -> &Type {
    match kind {
        Type::Array(array) => element(&array.elem),
        Type::Group(group) => element(&group.elem),
        Type::Paren(paren) => element(&paren.elem),
        other => other,
    }
}

/// Whether the struct says how it lies in memory; if so it has to be a way that is the same everywhere.
fn has_repr(item: &ItemStruct) -> Result<bool> {
    let mut found = false;
    for attribute in item.attrs.iter().filter(|it| it.path().is_ident("repr")) {
        found = true;
        let mut fixed = false;
        attribute.parse_nested_meta(|meta| {
            fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
            if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<TokenStream>()?;
            }
            Ok(())
        })?;
        if !fixed {
            let text = "a message is `repr(C)`: it has to lie in memory the same way at both ends";
            return Err(Error::new_spanned(attribute, text));
        }
    }
    Ok(found)
}

/// Whether the user derives a trait already.
fn derives(item: &ItemStruct, wanted: &str) -> bool {
    let derived = item.attrs.iter().filter(|it| it.path().is_ident("derive"));
    let mut found = false;
    for attribute in derived {
        // What can't be read is reported by the derive itself.
        drop(attribute.parse_nested_meta(|meta| {
            let last = meta.path.segments.last();
            found |= last.is_some_and(|last| last.ident == wanted);
            Ok(())
        }));
    }
    found
}

/// Padding has no value that could be sent; say so in words before `Pod` says it in types.
fn padding(item: &ItemStruct) -> TokenStream {
    let name = &item.ident;
    let sizes = item.fields.iter().map(|field| {
        let kind = &field.ty;
        quote! { ::core::mem::size_of::<#kind>() }
    });
    let text = format!(
        "`{name}` has padding: order its fields from the largest to the smallest, and fill its end with a field like \
         `_unused: [u8; 4]`"
    );
    quote! {
        const _: () = ::core::assert!(
            ::core::mem::size_of::<#name>() == 0 #(+ #sizes)*,
            #text
        );
    }
}

/// The fingerprint: each field's name, type and place, and what other messages look like inside.
fn layout(item: &ItemStruct, runtime: &TokenStream) -> TokenStream {
    let name = &item.ident;
    let text = name.to_string();
    let mut entries = Vec::new();
    for (index, field) in item.fields.iter().enumerate() {
        let member = match (&item.fields, &field.ident) {
            (Fields::Named(_), Some(ident)) => ident.to_token_stream(),
            _ => syn::Index::from(index).to_token_stream(),
        };
        let label = member.to_string();
        let kind = field.ty.to_token_stream().to_string();
        entries.push(quote! { (#label, #kind, ::core::mem::offset_of!(#name, #member)) });
        let inner = element(&field.ty);
        let number = inner.to_token_stream().to_string();
        if !NUMBERS.contains(&number.as_str()) {
            let hash = quote! { <#inner as #runtime::Layout>::HASH as usize };
            entries.push(quote! { (#label, "layout", #hash) });
        }
    }
    quote! {
        #runtime::layout_hash(#text, ::core::mem::size_of::<#name>(), &[#(#entries),*])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_would_be_right() {
        for (item, wanted) in [
            (quote! { enum E { A } }, "a message is a struct"),
            (quote! { struct S<T> { x: T } }, "no generics"),
            (quote! { struct S { x: bool } }, "use an integer"),
            (quote! { struct S { x: [char; 4] } }, "use an integer"),
            (quote! { struct S { x: usize } }, "use `u64`"),
            (quote! { struct S { x: String } }, "use an array"),
            (quote! { struct S { x: &'static [u8] } }, "use an array"),
            (quote! { #[repr(packed)] struct S { x: u8 } }, "`repr(C)`"),
        ] {
            match expand(quote! {}, item.clone()) {
                Ok(tokens) => unreachable!("{item} was taken: {tokens}"),
                Err(error) => assert!(error.to_string().contains(wanted), "{item}: {error}"),
            }
        }
    }

    #[test]
    fn what_the_user_says_is_not_said_twice() {
        let item = quote! {
            #[repr(C, align(8))]
            #[derive(Debug, Clone, Copy)]
            struct S { x: u64 }
        };
        let tokens = match expand(quote! {}, item) {
            Ok(tokens) => tokens.to_string(),
            Err(error) => unreachable!("{error}"),
        };
        assert_eq!(tokens.matches("repr").count(), 1, "{tokens}");
        assert_eq!(tokens.matches("Clone").count(), 1, "{tokens}");
        assert_eq!(tokens.matches("Copy").count(), 1, "{tokens}");
    }
}
