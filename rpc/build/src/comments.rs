//! Comments of a `.proto` as documentation of Rust.

use buffa_codegen::generated::descriptor::FileDescriptorProto;

/// The lines of an element's comment; none if it has no comment.
pub(crate) fn of(file: &FileDescriptorProto, element: &[i32]) -> Vec<String> {
    let locations = file.source_code_info.location.iter();
    let found = locations.filter(|it| it.path == element).find_map(|it| {
        let comment = it.leading_comments.as_ref();
        comment.or(it.trailing_comments.as_ref())
    });
    found.map(|text| lines(text)).unwrap_or_default()
}

/// Lines that mean to rustdoc what they say: prose stays prose.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        let line = line.strip_prefix(' ').unwrap_or(line).trim_end();
        let inner = line.trim_start();
        if inner.starts_with("```") {
            // An opening fence without a language would be a test in Rust.
            let bare = !fenced && inner.trim_matches('`').is_empty();
            lines.push(if bare {
                "```text".to_owned()
            } else {
                line.to_owned()
            });
            fenced = !fenced;
        } else if fenced {
            lines.push(line.to_owned());
        } else if line.starts_with("    ") || line.starts_with('\t') {
            // So would be an indented block.
            lines.push(prose(inner));
        } else {
            lines.push(prose(line));
        }
    }
    if fenced {
        lines.push("```".to_owned());
    }
    let filled = |line: &String| !line.is_empty();
    let first = lines.iter().position(filled).unwrap_or(lines.len());
    let last = lines.iter().rposition(filled).map_or(first, |at| at + 1);
    lines.drain(first..last).collect()
}

/// Escapes what would become a link or a tag, outside of code.
fn prose(line: &str) -> String {
    let mut out = String::new();
    for (index, part) in line.split('`').enumerate() {
        if index > 0 {
            out.push('`');
        }
        if index % 2 == 1 {
            out.push_str(part);
            continue;
        }
        for letter in part.chars() {
            if matches!(letter, '[' | ']' | '<' | '>') {
                out.push('\\');
            }
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_stays_prose() {
        assert_eq!(
            lines(" Reads a key.\n\n See [x] and `a[1]`, <b>.\n"),
            ["Reads a key.", "", r"See \[x\] and `a[1]`, \<b\>.",]
        );
        assert_eq!(lines("     let x = 1;"), ["let x = 1;"]);
        assert_eq!(lines(" ```\n x\n ```"), ["```text", "x", "```"]);
        assert_eq!(lines(" ```json\n [1]"), ["```json", "[1]", "```"]);
        assert!(lines("\n \n").is_empty());
    }
}
