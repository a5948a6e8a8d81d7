//! Reads messages and services from Rust source.

use quote::ToTokens as _;
use ringway_codegen::upper_camel_case;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericArgument, Item, ItemStruct, ItemTrait, Lit, Meta,
    PathArguments, ReturnType, Token, TraitItem, TraitItemFn, Type,
};

use super::layout::{Field, Scalar, Struct, layout_hash, method_hash, number};
use super::{Contents, MethodLine};

/// All messages and services of a file.
pub(crate) fn read(source: &str) -> Result<Contents, String> {
    let file = syn::parse_file(source).map_err(|error| format!("is no Rust: {error}"))?;
    let (mut structs, mut traits) = (Vec::new(), Vec::new());
    collect(&file.items, &mut structs, &mut traits);
    let mut contents = Contents::default();
    // A struct comes behind those that it is made of, as C wants it.
    let mut left = structs;
    while !left.is_empty() {
        let (now, later): (Vec<_>, Vec<_>) = left
            .iter()
            .copied()
            .partition(|item| !item.fields.iter().any(|field| is_one_of(&field.ty, &left)));
        if now.is_empty() {
            let name = left
                .first()
                .map_or_else(String::new, |it| it.ident.to_string());
            return Err(format!("`{name}` is made of itself"));
        }
        for item in now {
            contents.structs.push(message(item, &contents.structs)?);
        }
        left = later;
    }
    for item in traits {
        service(item, &mut contents)?;
    }
    Ok(contents)
}

fn collect<'a>(
    items: &'a [Item],
    structs: &mut Vec<&'a ItemStruct>,
    traits: &mut Vec<&'a ItemTrait>,
) {
    for item in items {
        match item {
            Item::Struct(item) if marked(&item.attrs, "message").is_some() => structs.push(item),
            Item::Trait(item) if marked(&item.attrs, "service").is_some() => traits.push(item),
            Item::Mod(module) => {
                if let Some((_, items)) = &module.content {
                    collect(items, structs, traits);
                }
            }
            _ => {}
        }
    }
}

/// `#[ringway::message]`, or `#[message]`.
fn marked<'a>(attributes: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attributes.iter().find(|attribute| {
        let segments = &attribute.path().segments;
        segments.last().is_some_and(|last| last.ident == name)
    })
}

fn element(kind: &Type) -> &Type {
    match kind {
        Type::Array(array) => element(&array.elem),
        Type::Group(group) => element(&group.elem),
        Type::Paren(paren) => element(&paren.elem),
        other => other,
    }
}

fn last_name(kind: &Type) -> Option<String> {
    match kind {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
}

fn is_one_of(kind: &Type, structs: &[&ItemStruct]) -> bool {
    let name = last_name(element(kind));
    name.is_some_and(|name| structs.iter().any(|item| item.ident == name))
}

fn message(item: &ItemStruct, known: &[Struct]) -> Result<Struct, String> {
    let name = item.ident.to_string();
    let mut fields = Vec::new();
    for field in &item.fields {
        let Some(ident) = &field.ident else {
            return Err(format!(
                "`{name}`: its fields need names in C; give them some"
            ));
        };
        let told = |text: &str| Err(format!("`{name}.{ident}`: {text}"));
        let (mut kind, mut lengths) = (&field.ty, Vec::new());
        while let Type::Array(array) = kind {
            let Expr::Lit(ExprLit {
                lit: Lit::Int(len), ..
            }) = &array.len
            else {
                return told("its length is no number; write one");
            };
            match len.base10_parse() {
                Ok(len) if len > 0 => lengths.push(len),
                _ => return told("C has no such array; give it a length from 1 on"),
            }
            kind = &array.elem;
        }
        let Some(of) = last_name(kind) else {
            return told("C has no such type; take a number, an array, or another message");
        };
        let scalar = match number(&of) {
            Some((c, _)) => Scalar::Number(c),
            None if of == "u128" || of == "i128" => {
                return told("C99 has no numbers of 128 bits; take two of 64");
            }
            None => Scalar::Struct(of),
        };
        fields.push(Field {
            name: ident.to_string().trim_start_matches("r#").to_owned(),
            label: ident.to_string(),
            kind: field.ty.to_token_stream().to_string(),
            scalar,
            lengths,
            offset: 0,
        });
    }
    let is_aligned = item.attrs.iter().any(|attribute| {
        attribute.path().is_ident("repr")
            && attribute.to_token_stream().to_string().contains("align")
    });
    if is_aligned {
        return Err(format!("`{name}`: C99 can't say `align`; leave it out"));
    }
    Struct::placed(name, fields, 1, known)
}

fn service(item: &ItemTrait, contents: &mut Contents) -> Result<(), String> {
    let (mut package, mut codec) = (None, None);
    if let Some(Attribute {
        meta: Meta::List(list),
        ..
    }) = marked(&item.attrs, "service")
    {
        let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
        let arguments = list.parse_args_with(parse);
        let arguments = arguments.map_err(|error| format!("`{}`: {error}", item.ident))?;
        for argument in arguments {
            let Meta::NameValue(pair) = argument else {
                continue;
            };
            match &pair.value {
                Expr::Lit(ExprLit {
                    lit: Lit::Str(text),
                    ..
                }) if pair.path.is_ident("package") => {
                    package = Some(text.value());
                }
                value if pair.path.is_ident("codec") => {
                    codec = Some(value.to_token_stream().to_string());
                }
                _ => {}
            }
        }
    }
    let name = item.ident.to_string();
    let service = package.map_or_else(|| name.clone(), |package| format!("{package}.{name}"));
    for entry in &item.items {
        if let TraitItem::Fn(function) = entry {
            let line = method(&service, function, codec.as_deref(), &contents.structs)?;
            contents.methods.push(line);
        }
    }
    Ok(())
}

/// The first type among a type's arguments.
fn argument(kind: &Type) -> Option<&Type> {
    let Type::Path(path) = kind else { return None };
    let PathArguments::AngleBracketed(all) = &path.path.segments.last()?.arguments else {
        return None;
    };
    all.args.iter().find_map(|it| match it {
        GenericArgument::Type(kind) => Some(kind),
        _ => None,
    })
}

fn method(
    service: &str,
    function: &TraitItemFn,
    codec: Option<&str>,
    structs: &[Struct],
) -> Result<MethodLine, String> {
    let signature = &function.sig;
    let full = format!("{service}/{}", signature.ident);
    let (mut request, mut response, mut kind) = (None, None, 0);
    for input in &signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        let inner = match &*input.ty {
            Type::Reference(reference) => &*reference.elem,
            other => other,
        };
        match last_name(inner).as_deref() {
            Some("CallContext" | "Inline") => {}
            Some("Receiver") => (request, kind) = (argument(inner), kind | 1),
            Some("Sender") => (response, kind) = (argument(inner), kind | 2),
            Some("Reply") => response = argument(inner),
            Some("PodRef") => request = argument(inner),
            _ => request = Some(inner),
        }
    }
    let returned = match &signature.output {
        ReturnType::Type(_, kind) => argument(kind),
        ReturnType::Default => None,
    };
    let (Some(request), Some(response)) = (request, response.or(returned)) else {
        return Err(format!(
            "`{full}` has no request, or returns no `Result<.., Status>`"
        ));
    };
    let own = marked(&function.attrs, "codec").and_then(|it| it.parse_args::<syn::Ident>().ok());
    let codec = own
        .map(|it| it.to_string())
        .or_else(|| codec.map(str::to_owned));
    let text = |kind: &Type| kind.to_token_stream().to_string().replace(' ', "");
    let is_bytes = |kind: &Type| ["[u8]", "Vec<u8>"].contains(&&*text(kind));
    let usual = if is_bytes(request) { "Raw" } else { "Pod" };
    let codec = match codec.as_deref().unwrap_or(usual) {
        "Raw" => 0,
        "Protobuf" | "Prost" => 1,
        _ => 2,
    };
    let hash = |kind: &Type| match text(kind).as_str() {
        "()" => Ok(layout_hash("()", 0, &[])),
        name => {
            let name = name.rsplit("::").next().unwrap_or(name);
            let found = structs.iter().find(|it| it.name == name);
            found.map(|it| it.hash).ok_or_else(|| {
                format!("`{full}`: `{name}` is no `#[ringway::message]` of this file; define it here too")
            })
        }
    };
    let (schema, messages) = if codec == 2 {
        let schema = method_hash(hash(request)?, hash(response)?);
        (schema, Some((text(request), text(response))))
    } else {
        (0, None)
    };
    Ok(MethodLine {
        service: service.to_owned(),
        name: upper_camel_case(signature.ident.to_string().trim_start_matches("r#")),
        kind,
        codec,
        schema,
        idempotent: marked(&function.attrs, "idempotent").is_some(),
        messages,
    })
}
