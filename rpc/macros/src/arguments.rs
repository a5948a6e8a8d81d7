//! What stands in the parentheses of an attribute.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use ringway_codegen::Codec;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, LitStr, Path, Result, Token};

/// The arguments of both attributes.
pub(crate) struct Arguments {
    pub(crate) package: Option<LitStr>,
    pub(crate) codec: Option<Codec>,
    pub(crate) runtime: TokenStream,
}

impl Arguments {
    pub(crate) fn parse(tokens: TokenStream, known: &[&str]) -> Result<Self> {
        let parser = |input: ParseStream<'_>| Self::read(input, known);
        parser.parse2(tokens)
    }

    fn read(input: ParseStream<'_>, known: &[&str]) -> Result<Self> {
        let mut arguments = Self {
            package: None,
            codec: None,
            runtime: quote! { ::ringway::rpc },
        };
        while !input.is_empty() {
            let name: Ident = input.call(syn::ext::IdentExt::parse_any)?;
            let text = name.to_string();
            if !known.contains(&text.as_str()) {
                let known = known.join("`, `");
                let text = format!("there is no argument `{text}`; there are `{known}`");
                return Err(Error::new(name.span(), text));
            }
            input.parse::<Token![=]>()?;
            match text.as_str() {
                "package" => arguments.package = Some(package(input.parse()?)?),
                "codec" => arguments.codec = Some(codec(&input.parse()?)?),
                _ => arguments.runtime = input.parse::<Path>()?.into_token_stream(),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn package(name: LitStr) -> Result<LitStr> {
    let text = name.value();
    let word = |part: &str| {
        let mut letters = part.chars();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|it| it.is_ascii_alphanumeric() || it == '_')
    };
    if text.split('.').all(word) {
        return Ok(name);
    }
    Err(Error::new(
        name.span(),
        "a package is named like `market.v1`",
    ))
}

pub(crate) fn codec(name: &Ident) -> Result<Codec> {
    Ok(match name.to_string().as_str() {
        "Raw" => Codec::Raw,
        "Pod" => Codec::Pod,
        "Protobuf" => Codec::Protobuf,
        "Prost" => Codec::Prost,
        other => {
            let text = format!(
                "there is no codec `{other}`; there are `Pod`, `Raw`, `Protobuf` and `Prost`"
            );
            return Err(Error::new(name.span(), text));
        }
    })
}
