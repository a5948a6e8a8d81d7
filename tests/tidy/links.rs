//! Rules about documents: their links, the headings that code cites, the tests that they name.

use crate::rules::{Fault, fault};
use crate::tree::Tree;

/// A link of a document: line, text and target.
type Link<'a> = (usize, &'a str, &'a str);

/// Relative links in documents lead to a file, a folder or a heading; a link whose text is the name of a test
/// leads to the file that has it.
pub(crate) fn documents(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (file, text) in tree.files.iter().filter(|(path, _)| path.ends_with(".md")) {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, name, target) in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() {
                file.clone()
            } else {
                join(folder, path)
            };
            faults.extend(follow(tree, file, line, &path, anchor));
            if path.ends_with(".rs") && is_name_of_test(name) {
                let text = tree.files.get(&path).map_or("", String::as_str);
                if !text.contains(&format!("fn {}(", name.trim_matches('`'))) {
                    let better = format!("{path} has no such test; name the one that proves it");
                    faults.push(fault(
                        file,
                        line,
                        "a test that a document names exists",
                        better,
                    ));
                }
            }
        }
    }
    faults
}

/// Code cites rules of documents as `docs/….md#heading`; those exist too.
pub(crate) fn citations(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (file, text) in tree
        .rust()
        .filter(|(path, _)| !path.starts_with("tests/tidy/"))
    {
        for (index, line) in text.lines().enumerate() {
            for (at, _) in line.match_indices("docs/") {
                let cited: String = line[at..]
                    .chars()
                    .take_while(|char| is_of_path(*char))
                    .collect();
                let outside = line[..at].ends_with('/') || !cited.contains(".md");
                if outside {
                    continue;
                }
                let cited = cited.trim_end_matches('.');
                let (path, anchor) = cited.split_once('#').unwrap_or((cited, ""));
                faults.extend(follow(tree, file, index + 1, path, anchor));
            }
        }
    }
    faults
}

fn follow(tree: &Tree, file: &str, line: usize, path: &str, anchor: &str) -> Option<Fault> {
    if !tree.has(path) {
        return Some(fault(
            file,
            line,
            "relative links lead somewhere",
            format!("there is no `{path}`"),
        ));
    }
    let text = tree.files.get(path)?;
    if anchor.is_empty() || !path.ends_with(".md") || headings(text).any(|slug| slug == anchor) {
        return None;
    }
    let better = format!("`{path}` has no heading `#{anchor}`");
    Some(fault(
        file,
        line,
        "links into a document name one of its headings",
        better,
    ))
}

fn is_of_path(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '/' | '.' | '#' | '-' | '_')
}

/// Test names are statements: several words in snake case.
fn is_name_of_test(text: &str) -> bool {
    let name = text.trim_matches('`');
    let snake = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_';
    name.contains('_') && name.chars().all(snake)
}

fn links(text: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let Some(name) = line[..at].rsplit_once('[').map(|(_, name)| name) else {
                continue;
            };
            let Some((target, _)) = line[at + 2..].split_once(')') else {
                continue;
            };
            found.push((index + 1, name, target));
        }
    }
    found
}

/// The anchors of a document's headings, by the rule of the common forges, and explicit ones.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    let explicit = text.match_indices("<a id=\"").filter_map(|(at, tag)| {
        text[at + tag.len()..]
            .split_once('"')
            .map(|(id, _)| id.to_owned())
    });
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let slugs = lines.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        kept.map(|char| if char == ' ' { '-' } else { char })
            .collect()
    });
    slugs.chain(explicit)
}

fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
