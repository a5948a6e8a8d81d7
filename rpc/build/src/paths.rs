//! The crates that buffa writes as `::buffa`, reached through the runtime instead.
//!
//! buffa has no setting for it. The rewriting works on tokens, so that texts and documentation stay as they are, and
//! touches only paths that begin with `::`: a module of the user's that is called `buffa` is none of its business.

use proc_macro2::{Group, Spacing, TokenStream, TokenTree};
use quote::quote;

/// Crates that the runtime re-exports for generated code.
const CRATES: &[&str] = &["buffa", "buffa_types"];

/// Puts the runtime in front of absolute paths to those crates.
pub(crate) fn rewrite(tokens: TokenStream, runtime: &TokenStream) -> TokenStream {
    let mut out: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), rewrite(group.stream(), runtime));
                inner.set_span(group.span());
                out.push(TokenTree::Group(inner));
            }
            TokenTree::Ident(name) if CRATES.iter().any(|it| name == it) && begins_path(&out) => {
                // The two colons are there already; the runtime brings its own.
                out.truncate(out.len() - 2);
                out.extend(quote! { #runtime::generated::#name });
            }
            token => out.push(token),
        }
    }
    out.into_iter().collect()
}

/// Whether the tokens end with `::` that nothing precedes which it could belong to.
fn begins_path(before: &[TokenTree]) -> bool {
    let [rest @ .., first, second] = before else {
        return false;
    };
    if !is_punct(first, ':') || !is_punct(second, ':') {
        return false;
    }
    match rest {
        [.., TokenTree::Ident(name)] => is_keyword(&name.to_string()),
        [before @ .., TokenTree::Punct(angle)] if angle.as_char() == '>' => {
            is_arrow(before) || opens_an_item(before)
        }
        _ => true,
    }
}

/// Whether the `>` behind these tokens is one of `->` and `=>`, which end before a path.
fn is_arrow(before: &[TokenTree]) -> bool {
    matches!(before.last(), Some(TokenTree::Punct(punct))
        if punct.spacing() == Spacing::Joint && matches!(punct.as_char(), '-' | '='))
}

/// Whether the `>` behind these tokens closes the generics of `impl<..>` or `for<..>`. Those of a type are a segment
/// of its path.
fn opens_an_item(before: &[TokenTree]) -> bool {
    let mut depth = 1_usize;
    for at in (0..before.len()).rev() {
        let Some((token, rest)) = before.get(..=at).and_then(<[_]>::split_last) else {
            return false;
        };
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '>' && !is_arrow(rest) => depth += 1,
            TokenTree::Punct(punct) if punct.as_char() == '<' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return matches!(rest.last(), Some(TokenTree::Ident(name)) if name == "impl" || name == "for");
        }
    }
    false
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// Words that a path can follow, but not be continued from.
fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "as" | "async"
            | "await"
            | "break"
            | "const"
            | "dyn"
            | "else"
            | "for"
            | "if"
            | "impl"
            | "in"
            | "let"
            | "loop"
            | "match"
            | "mut"
            | "pub"
            | "ref"
            | "return"
            | "static"
            | "unsafe"
            | "use"
            | "where"
            | "while"
            | "move"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        let tokens: TokenStream = text.parse().unwrap_or_default();
        assert!(!tokens.is_empty(), "{text}");
        rewrite(tokens, &quote! { ::r }).to_string()
    }

    fn same(text: &str) -> String {
        let tokens: TokenStream = text.parse().unwrap_or_default();
        tokens.to_string()
    }

    #[test]
    fn absolute_paths_go_through_the_runtime() {
        for (before, after) in [
            (
                "use ::buffa::Message;",
                "use ::r::generated::buffa::Message;",
            ),
            ("fn f() -> ::buffa::X", "fn f() -> ::r::generated::buffa::X"),
            (
                "impl ::buffa::M for T",
                "impl ::r::generated::buffa::M for T",
            ),
            (
                "<::buffa_types::A as ::buffa::B>",
                "<::r::generated::buffa_types::A as ::r::generated::buffa::B>",
            ),
            (
                "impl<'a, F: Fn(A<u8>) -> B<u8>> ::buffa::M for T",
                "impl<'a, F: Fn(A<u8>) -> B<u8>> ::r::generated::buffa::M for T",
            ),
            (
                "where F: for<'a> ::buffa::M<'a>",
                "where F: for<'a> ::r::generated::buffa::M<'a>",
            ),
            (
                "a(::buffa::B, [::buffa::C])",
                "a(::r::generated::buffa::B, [::r::generated::buffa::C])",
            ),
            ("m!(x => ::buffa::y)", "m!(x => ::r::generated::buffa::y)"),
        ] {
            assert_eq!(rewritten(before), same(after), "{before}");
        }
    }

    #[test]
    fn what_only_looks_like_the_crate_stays() {
        for text in [
            "super::buffa::Message",
            "self::buffa::X",
            "foo::buffa::X",
            "Vec<T>::buffa::x",
            "Vec<fn(A<T>) -> Vec<T>>::buffa::x",
            "let buffa = buffa::x();",
            "\"::buffa::Message\"",
            "#[doc = \"see ::buffa::Message\"]",
            "::buffalo::X",
        ] {
            assert_eq!(rewritten(text), same(text));
        }
    }
}
