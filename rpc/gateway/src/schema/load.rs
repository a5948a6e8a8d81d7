//! Definitions from descriptors and files.

use std::collections::HashSet;
use std::path::Path;
use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::DescriptorPool;
use protox::file::{ChainFileResolver, GoogleFileResolver, IncludeFileResolver};
use ringway_google::{FILES, Google};
use ringway_rpc::ServiceInfo;

use super::Schema;
use crate::error::SchemaError;

/// Google's files, compiled once.
pub(crate) fn google() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        let names = FILES.iter().map(|(name, _)| *name);
        // They are part of the program: a test compiles them.
        compile(&[], names).unwrap_or_default()
    });
    &POOL
}

fn compile<'a>(
    folders: &[&Path],
    names: impl IntoIterator<Item = &'a str>,
) -> Result<DescriptorPool, protox::Error> {
    let mut resolver = ChainFileResolver::new();
    for folder in folders {
        resolver.add(IncludeFileResolver::new(folder.to_path_buf()));
    }
    resolver.add(Google);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_source_info(true).include_imports(true);
    for name in names {
        compiler.open_file(name)?;
    }
    // By bytes: so options that are extensions keep their values.
    let set = compiler.encode_file_descriptor_set();
    let mut pool = DescriptorPool::new();
    pool.decode_file_descriptor_set(&*set)
        .map_err(|error| protox::Error::new(error.to_string()))?;
    Ok(pool)
}

impl Schema {
    /// From a serialized `FileDescriptorSet` that holds all imports too (`protoc --include_imports`).
    ///
    /// # Errors
    /// [`SchemaError`]; its text names the fix.
    pub fn from_descriptors(set: &[u8]) -> Result<Self, SchemaError> {
        Self::of_sets(&[set])
    }

    /// From a `.proto` file; blocks for reading it. Imports are looked for in `folders`, or, if there are none,
    /// beside the file; google's well-known types, `google/api` and `google/rpc` are built in.
    ///
    /// # Errors
    /// [`SchemaError`]; its text names the place.
    pub fn from_proto(file: &Path, folders: &[&Path]) -> Result<Self, SchemaError> {
        let told = |text: String| SchemaError::Proto(format!("{}: {text}", file.display()));
        let beside = file.parent().filter(|it| !it.as_os_str().is_empty());
        let beside = beside.unwrap_or_else(|| Path::new("."));
        let folders = if folders.is_empty() {
            vec![beside]
        } else {
            folders.to_vec()
        };
        let name = folders
            .iter()
            .find_map(|folder| file.strip_prefix(folder).ok());
        let name = name
            .or_else(|| file.file_name().map(Path::new))
            .unwrap_or(file);
        let name = name
            .to_str()
            .ok_or_else(|| told("the name is no UTF-8".to_owned()))?;
        let wrong = |error: protox::Error| {
            let mut text = format!("{error:?}");
            if error.is_file_not_found() {
                let looked: Vec<String> =
                    folders.iter().map(|it| it.display().to_string()).collect();
                if !file.exists() {
                    "there is no such file".clone_into(&mut text);
                }
                text = format!("{text}; looked in {}", looked.join(", "));
            }
            match text.strip_prefix(name).filter(|it| it.starts_with(':')) {
                // The place in the file.
                Some(place) => SchemaError::Proto(format!("{}{place}", file.display())),
                None => told(text),
            }
        };
        if file.is_dir() {
            return Err(told("this is a folder; name a `.proto` file".to_owned()));
        }
        let pool = compile(&folders, [name]).map_err(wrong)?;
        Self::of_pool(pool)
    }

    /// From the services of this process.
    pub(crate) fn of_services<'a>(
        services: impl Iterator<Item = &'a ServiceInfo>,
    ) -> Result<Self, SchemaError> {
        let sets: Vec<&[u8]> = services
            .map(|it| it.descriptors)
            .filter(|it| !it.is_empty())
            .collect();
        Self::of_sets(&sets)
    }

    /// Several sets may hold the same file: the first one counts.
    pub(super) fn of_sets(sets: &[&[u8]]) -> Result<Self, SchemaError> {
        let unusable = |error: &dyn core::fmt::Display| SchemaError::Descriptors(error.to_string());
        let mut merged = Files::default();
        let mut known = HashSet::new();
        for set in sets {
            for file in Files::decode(*set).map_err(|error| unusable(&error))?.file {
                let name = Name::decode(&*file).map_err(|error| unusable(&error))?.name;
                if known.insert(name) {
                    merged.file.push(file);
                }
            }
        }
        let mut pool = DescriptorPool::new();
        pool.decode_file_descriptor_set(&*merged.encode_to_vec())
            .map_err(|error| unusable(&error))?;
        Self::of_pool(pool)
    }
}

/// A `FileDescriptorSet` whose files stay bytes, so that options that are extensions keep their values.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn google_s_files_compile() {
        let names = FILES.iter().map(|(name, _)| *name);
        let pool = compile(&[], names).unwrap();
        assert!(pool.get_message_by_name("google.api.HttpRule").is_some());
        assert!(
            google()
                .get_message_by_name("google.rpc.BadRequest")
                .is_some()
        );
    }
}
