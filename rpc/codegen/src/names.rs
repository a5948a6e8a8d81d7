//! Names: from those of a definition to those of Rust.

use proc_macro2::{Ident, Span};

/// Words that no identifier may be; the first four can't even be raw ones.
const KEYWORDS: &[&str] = &[
    "self", "super", "crate", "Self", "as", "async", "await", "break", "const", "continue", "dyn",
    "else", "enum", "extern", "false", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait", "true",
    "type", "unsafe", "use", "where", "while", "abstract", "become", "box", "do", "final", "macro",
    "override", "priv", "try", "typeof", "unsized", "virtual", "yield",
];

/// An identifier of this name; a keyword becomes a raw one, or gets a trailing underscore where it can't.
#[must_use]
pub fn ident(name: &str) -> Ident {
    let span = Span::call_site();
    match KEYWORDS.iter().position(|word| *word == name) {
        None => Ident::new(name, span),
        Some(0..4) => Ident::new(&format!("{name}_"), span),
        Some(_) => Ident::new_raw(name, span),
    }
}

/// The words of a name: `HTTPServer_v2` has `HTTP`, `Server` and `v2`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, &letter) in letters.iter().enumerate() {
        if letter == '_' {
            words.push(String::new());
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| letters.get(at));
        let after_small = before.is_some_and(|it| it.is_lowercase() || it.is_ascii_digit());
        let before_small = letters.get(at + 1).is_some_and(|it| it.is_lowercase());
        let after_large = before.is_some_and(|it| it.is_uppercase());
        if letter.is_uppercase() && (after_small || after_large && before_small) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter);
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `PutAll` → `put_all`.
#[must_use]
pub fn snake_case(name: &str) -> String {
    words(name).join("_").to_lowercase()
}

/// `put_all` → `PutAll`.
#[must_use]
pub fn upper_camel_case(name: &str) -> String {
    let capital = |word: String| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| {
            first.to_uppercase().chain(letters).collect()
        })
    };
    words(name).into_iter().map(capital).collect()
}

/// `KeyValue` → `KEY_VALUE`.
pub(crate) fn shouty_snake_case(name: &str) -> String {
    words(name).join("_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_their_case_word_by_word() {
        for (name, snake, camel) in [
            ("Get", "get", "Get"),
            ("PutAll", "put_all", "PutAll"),
            ("HTTPServer", "http_server", "HTTPServer"),
            ("watch_keys", "watch_keys", "WatchKeys"),
            ("GetV2Item", "get_v2_item", "GetV2Item"),
            ("x", "x", "X"),
        ] {
            assert_eq!(snake_case(name), snake);
            assert_eq!(upper_camel_case(name), camel);
        }
        assert_eq!(shouty_snake_case("KeyValue"), "KEY_VALUE");
    }

    #[test]
    fn keywords_become_identifiers() {
        assert_eq!(ident("type").to_string(), "r#type");
        assert_eq!(ident("self").to_string(), "self_");
        assert_eq!(ident("get").to_string(), "get");
    }
}
