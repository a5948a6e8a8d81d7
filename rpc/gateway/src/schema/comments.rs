//! What stands as comments in the `.proto` files: descriptions for people.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FileDescriptor};

/// Comments by file and place.
#[derive(Debug, Default)]
pub(crate) struct Comments(HashMap<(String, Vec<i32>), String>);

impl Comments {
    pub(super) fn of(pool: &DescriptorPool) -> Self {
        let mut all = HashMap::new();
        for file in pool.files() {
            let source = file.file_descriptor_proto().source_code_info.as_ref();
            for location in source.iter().flat_map(|it| &it.location) {
                let leading = location.leading_comments.as_ref();
                if let Some(text) = leading.or(location.trailing_comments.as_ref()) {
                    let place = (file.name().to_owned(), location.path.clone());
                    all.insert(place, tidied(text));
                }
            }
        }
        Self(all)
    }

    /// The comment of what stands at `path` of a file.
    pub(crate) fn at(&self, file: &FileDescriptor, path: &[i32]) -> Option<&str> {
        let place = (file.name().to_owned(), path.to_vec());
        self.0.get(&place).map(String::as_str)
    }
}

/// Without the blank that stands between the slashes and the text.
fn tidied(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    let lines: Vec<&str> = lines.collect();
    lines.join("\n").trim().to_owned()
}
