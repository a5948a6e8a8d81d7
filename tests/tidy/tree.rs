//! The project's text files, and the code of a Rust line without its comments and strings.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// Names that hold no text of ours; `.git` is a file in a second work tree.
const SKIPPED: &[&str] = &[".git", "target", "corpus", "artifacts", "__pycache__"];
/// Endings of the files that rules look at; files without an ending are read too.
const TEXT: &[&str] = &[
    "c", "cpp", "h", "hpp", "html", "md", "proto", "py", "rs", "sh", "toml", "txt", "svg", "jsonl",
];

/// Files by their path from the root, with `/` between the parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every text file below `root`.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.add(root, "")?;
        Ok(tree)
    }

    /// A made-up tree.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
        }
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                self.add(&entry.path(), &format!("{path}/"))?;
            } else if is_text(&name) {
                // What is not UTF-8 is no text, whatever it is called.
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    self.files.insert(path, text);
                }
            }
        }
        Ok(())
    }

    /// Whether a file or a folder stands there.
    pub(crate) fn has(&self, path: &str) -> bool {
        let inside = format!("{path}/");
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&inside))
    }

    /// The Rust files, with their texts.
    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self
            .files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(|(path, _)| path.ends_with(".rs"))
    }
}

fn is_text(name: &str) -> bool {
    match name.rsplit_once('.') {
        Some((stem, ending)) => stem.is_empty() || TEXT.contains(&ending),
        None => true,
    }
}

/// The lines of a Rust file from 1 on, without comments and without what stands in strings.
///
/// Strings that go over several lines are read line by line, which is enough for words that no text of ours
/// has at a line's start.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, code(line)))
}

fn code(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => kept.push(char),
            _ => {}
        }
    }
    kept
}

/// Whether `word` stands in `text` with no letter, digit or underscore beside it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |char: char| char.is_alphanumeric() || char == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part);
        let after = text[at + word.len()..].chars().next().is_some_and(part);
        let inside = before && word.starts_with(part) || after && word.ends_with(part);
        !inside
    })
}
