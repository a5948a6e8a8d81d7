//! From a function of a trait to a method.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use ringway_codegen::{Codec, Form, Kind, Message, Method, upper_camel_case};
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, PathArguments, PathSegment, Result,
    ReturnType, Signature, TraitItemFn, Type,
};

use crate::arguments::{self, Arguments};
use crate::service::docs;

/// How a method takes its service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    Shared,
    Exclusive,
}

/// What a parameter is, by its type.
enum Part<'a> {
    Context,
    Requests(Type),
    Responses(Type),
    Reply(Type),
    Request(&'a Type),
}

/// The parameters of a method, each at most once.
#[derive(Default)]
struct Parts<'a> {
    context: bool,
    request: Option<&'a Type>,
    requests: Option<Type>,
    responses: Option<Type>,
    reply: Option<Type>,
}

pub(crate) fn read(
    function: &mut TraitItemFn,
    arguments: &Arguments,
) -> Result<(Method, Receiver)> {
    let marks = marks(&mut function.attrs)?;
    let signature = &function.sig;
    if !signature.generics.params.is_empty() {
        let text = "a method has no generics: its messages have to be known";
        return Err(Error::new_spanned(&signature.generics, text));
    }
    let asynchronous = signature.asyncness.is_some();
    let receiver = receiver(signature, asynchronous)?;
    let parts = parts(signature, asynchronous)?;
    let returned = returned(signature)?;
    let kind = Kind::of(parts.requests.is_some(), parts.responses.is_some());
    let form = match (asynchronous, &parts.reply) {
        (true, _) => Form::Async,
        (false, Some(_)) => Form::Plain,
        (false, None) => Form::Short,
    };
    let (request, by_reference) = request(signature, &parts, asynchronous)?;
    let response = response(signature, &parts, &returned)?;
    let bytes = (is_bytes(&request), is_bytes(&response));
    if bytes.0 != bytes.1 && marks.codec.or(arguments.codec).is_none() {
        let text =
            "request and response have one codec: both have to be bytes, or both plain structs";
        return Err(Error::new_spanned(&signature.inputs, text));
    }
    let usual = if bytes.0 { Codec::Raw } else { Codec::Pod };
    let codec = marks.codec.or(arguments.codec).unwrap_or(usual);
    if !asynchronous && matches!(codec, Codec::Protobuf | Codec::Prost) {
        let text = "plain functions on protobuf messages come from a `.proto`; make it `async fn`";
        return Err(Error::new_spanned(&signature.ident, text));
    }
    let method = Method {
        name: upper_camel_case(signature.ident.to_string().trim_start_matches("r#")),
        ident: signature.ident.clone(),
        docs: docs(&function.attrs),
        kind,
        form,
        context: parts.context,
        by_reference,
        codec,
        request: message(&request, codec),
        response: message(&response, codec),
        idempotent: marks.idempotent,
    };
    Ok((method, receiver))
}

/// Attributes of ours, which the compiler does not know.
struct Marks {
    codec: Option<Codec>,
    idempotent: bool,
}

fn marks(attributes: &mut Vec<Attribute>) -> Result<Marks> {
    let mut marks = Marks {
        codec: None,
        idempotent: false,
    };
    for attribute in attributes.iter() {
        if attribute.path().is_ident("codec") {
            let name: Ident = attribute.parse_args()?;
            marks.codec = Some(arguments::codec(&name)?);
        }
        marks.idempotent |= attribute.path().is_ident("idempotent");
    }
    attributes.retain(|it| !it.path().is_ident("codec") && !it.path().is_ident("idempotent"));
    Ok(marks)
}

fn receiver(signature: &Signature, asynchronous: bool) -> Result<Receiver> {
    let wrong = |at: &dyn ToTokens| {
        let text = if asynchronous {
            "an `async fn` takes `&self`: other calls run while it waits"
        } else {
            "a method takes `&self` or `&mut self`"
        };
        Err(Error::new_spanned(at.to_token_stream(), text))
    };
    let Some(FnArg::Receiver(receiver)) = signature.inputs.first() else {
        return wrong(signature);
    };
    if receiver.reference.is_none() || receiver.mutability.is_some() && asynchronous {
        return wrong(receiver);
    }
    Ok(match receiver.mutability {
        Some(_) => Receiver::Exclusive,
        None => Receiver::Shared,
    })
}

fn parts(signature: &Signature, asynchronous: bool) -> Result<Parts<'_>> {
    let mut parts = Parts::default();
    for (index, input) in signature.inputs.iter().skip(1).enumerate() {
        let FnArg::Typed(input) = input else { continue };
        let told = |text: &str| Err(Error::new_spanned(input, text));
        let answers = parts.responses.is_some() || parts.reply.is_some();
        match part(&input.ty) {
            Part::Context if index > 0 => return told("the call's context comes first"),
            Part::Context => parts.context = true,
            Part::Requests(_) | Part::Responses(_) if !asynchronous => {
                return told("a method that streams waits: make it `async fn`");
            }
            Part::Reply(_) if asynchronous => {
                return told("an `async fn` answers with what it returns");
            }
            Part::Responses(_) | Part::Reply(_) if answers => {
                return told("a call is answered once");
            }
            Part::Responses(kind) => parts.responses = Some(kind),
            Part::Reply(kind) => parts.reply = Some(kind),
            _ if answers => return told("what answers the call comes last"),
            _ if parts.request.is_some() || parts.requests.is_some() => {
                return told("a method has one request; put several into a struct");
            }
            Part::Requests(kind) => parts.requests = Some(kind),
            Part::Request(kind) => parts.request = Some(kind),
        }
    }
    Ok(parts)
}

fn part(kind: &Type) -> Part<'_> {
    let inner = match kind {
        Type::Reference(reference) => &*reference.elem,
        other => other,
    };
    let Some(last) = last_segment(inner) else {
        return Part::Request(kind);
    };
    let argument = || type_argument(last).unwrap_or_else(|| inner.clone());
    match last.ident.to_string().as_str() {
        "CallContext" | "Inline" => Part::Context,
        "Receiver" => Part::Requests(argument()),
        "Sender" => Part::Responses(argument()),
        "Reply" => Part::Reply(argument()),
        _ => Part::Request(kind),
    }
}

/// The type of the requests, and whether a plain function takes a reference to it.
fn request(signature: &Signature, parts: &Parts<'_>, asynchronous: bool) -> Result<(Type, bool)> {
    if let Some(streamed) = &parts.requests {
        return Ok((streamed.clone(), false));
    }
    let Some(request) = parts.request else {
        let unit = if asynchronous { "()" } else { "&()" };
        let text = format!("a method takes its request as a parameter; `{unit}` if it has none");
        return Err(Error::new_spanned(&signature.ident, text));
    };
    match request {
        Type::Reference(_) if asynchronous => Err(Error::new_spanned(
            request,
            "an `async fn` outlives the request's memory: take a value (`Vec<u8>` for bytes)",
        )),
        Type::Reference(reference) => Ok(((*reference.elem).clone(), true)),
        _ if asynchronous => Ok((request.clone(), false)),
        _ => match last_segment(request) {
            Some(last) if last.ident == "PodRef" => {
                let inner = type_argument(last).unwrap_or_else(|| request.clone());
                Ok((inner, false))
            }
            _ => Err(Error::new_spanned(
                request,
                "a plain function takes its request by reference: it is read where it was received",
            )),
        },
    }
}

/// The type of the responses, from what the method returns or answers by.
fn response(signature: &Signature, parts: &Parts<'_>, returned: &Type) -> Result<Type> {
    let (answered, wanted) = match (&parts.responses, &parts.reply) {
        (Some(kind), _) => (kind, "()"),
        (_, Some(kind)) => (kind, "Replied"),
        _ => return Ok(returned.clone()),
    };
    let fits = match returned {
        Type::Tuple(tuple) => wanted == "()" && tuple.elems.is_empty(),
        other => last_segment(other).is_some_and(|last| last.ident == wanted),
    };
    if fits {
        return Ok(answered.clone());
    }
    let text =
        format!("this method answers by its last parameter and returns `Result<{wanted}, Status>`");
    Err(Error::new_spanned(&signature.output, text))
}

/// What stands in `Result<.., Status>`.
fn returned(signature: &Signature) -> Result<Type> {
    let found = match &signature.output {
        ReturnType::Type(_, kind) => last_segment(kind)
            .filter(|last| last.ident == "Result")
            .and_then(type_argument),
        ReturnType::Default => None,
    };
    found.ok_or_else(|| {
        let text = "a method returns `Result<.., Status>`";
        match &signature.output {
            ReturnType::Default => Error::new_spanned(&signature.ident, text),
            output => Error::new_spanned(output, text),
        }
    })
}

fn last_segment(kind: &Type) -> Option<&PathSegment> {
    match kind {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

/// The first type among a segment's arguments.
fn type_argument(segment: &PathSegment) -> Option<Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(kind) => Some(kind.clone()),
        _ => None,
    })
}

/// `[u8]` or `Vec<u8>`.
fn is_bytes(kind: &Type) -> bool {
    let byte = |kind: &Type| last_segment(kind).is_some_and(|last| last.ident == "u8");
    match kind {
        Type::Slice(slice) => byte(&slice.elem),
        Type::Path(_) => last_segment(kind)
            .filter(|last| last.ident == "Vec")
            .and_then(type_argument)
            .is_some_and(|inner| byte(&inner)),
        _ => false,
    }
}

fn message(kind: &Type, codec: Codec) -> Message {
    if codec == Codec::Raw {
        return Message {
            owned: quote! { ::std::vec::Vec<u8> },
            borrowed: quote! { [u8] },
            view: quote! { &[u8] },
        };
    }
    let tokens: TokenStream = kind.to_token_stream();
    Message {
        owned: tokens.clone(),
        borrowed: tokens.clone(),
        view: tokens,
    }
}
