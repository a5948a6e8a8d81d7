//! The settings of a build script, and the way from files to files.

use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;

use crate::error::Error;
use crate::messages::{Library, Messages};
use crate::parse::Parsed;
use crate::paths;
use crate::services::Services;
use crate::tree::Tree;

/// Compiles `.proto` files with the default settings into the build script's `OUT_DIR`.
///
/// Imports are looked for in the folders of the files.
///
/// # Errors
/// [`Error`] names file, line and fix.
pub fn compile<P: AsRef<Path>>(protos: &[P]) -> Result<(), Error> {
    configure().compile(protos)
}

/// Where settings begin.
#[must_use]
pub fn configure() -> Builder {
    Builder::default()
}

/// How `.proto` files become Rust; setters take and return it.
///
/// ```no_run
/// ringway_build::configure()
///     .include("proto")
///     .plain("kv.KeyValue/Get")
///     .compile(&["proto/kv.proto"])?;
/// # Ok::<(), ringway_build::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    includes: Vec<PathBuf>,
    plain: Vec<String>,
    externs: Vec<(String, String)>,
    runtime: String,
    file_name: String,
    out_dir: Option<PathBuf>,
    c_header: Option<PathBuf>,
    library: Library,
    keeps_unknown_fields: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            includes: Vec::new(),
            plain: Vec::new(),
            externs: Vec::new(),
            runtime: "::ringway::rpc".to_owned(),
            file_name: "ringway".to_owned(),
            out_dir: None,
            c_header: None,
            library: Library::Buffa,
            keeps_unknown_fields: false,
        }
    }
}

impl Builder {
    /// Adds a folder in which files and imports are looked for; file names in `import` are relative to it. Default:
    /// the folders of the compiled files.
    #[must_use]
    pub fn include(mut self, folder: impl Into<PathBuf>) -> Self {
        self.includes.push(folder.into());
        self
    }

    /// Makes handlers plain functions that run to completion on the engine's thread and read the request where it
    /// was received: no allocation, no copy. Names a unary method, `package.Service/Method`, or a service,
    /// `package.Service`, for all of its unary methods. A service without other methods gets `&mut self`.
    #[must_use]
    pub fn plain(mut self, method: impl Into<String>) -> Self {
        self.plain.push(method.into());
        self
    }

    /// Types of a package, or one type, are there already: `extern_path(".common.v1", "::common::v1")`. Nothing is
    /// generated for the package.
    #[must_use]
    pub fn extern_path(mut self, proto: impl Into<String>, rust: impl Into<String>) -> Self {
        self.externs.push((proto.into(), rust.into()));
        self
    }

    /// The crate `ringway-rpc` as the program names it. Default `::ringway::rpc`.
    #[must_use]
    pub fn runtime(mut self, path: impl Into<String>) -> Self {
        self.runtime = path.into();
        self
    }

    /// Name of the output without `.rs`, for scripts that compile several sets of files. Default `ringway`, which
    /// `include_proto!()` includes; another is included by `include_proto!("name")`.
    #[must_use]
    pub fn file_name(mut self, name: impl Into<String>) -> Self {
        self.file_name = name.into();
        self
    }

    /// Folder of the output. Default: the build script's `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(folder.into());
        self
    }

    /// Writes a C header too, with the names and kinds of all methods, for programs that call or serve them through
    /// `ringway.h`.
    #[must_use]
    pub fn c_header(mut self, path: impl Into<PathBuf>) -> Self {
        self.c_header = Some(path.into());
        self
    }

    /// Messages keep fields that they do not know and write them again: for programs that pass messages of a newer
    /// definition on. Costs an allocation for each message that has such, and a hidden field in each struct. Default
    /// off. Not for prost, which has no such thing.
    #[must_use]
    pub fn keep_unknown_fields(mut self) -> Self {
        self.keeps_unknown_fields = true;
        self
    }

    /// Messages by prost, for programs that have such types. They have no borrowed views: a plain handler gets a
    /// decoded message. The program needs the feature `prost` of `ringway`.
    #[cfg(feature = "prost")]
    #[must_use]
    pub fn prost(mut self) -> Self {
        self.library = Library::Prost;
        self
    }

    /// Compiles the files and writes the output. Tells cargo to run the script again when a file changes, imports
    /// included.
    ///
    /// # Errors
    /// [`Error`] names file, line and fix.
    pub fn compile<P: AsRef<Path>>(&self, protos: &[P]) -> Result<(), Error> {
        let parsed = self.parse(protos);
        self.write(protos.iter().map(AsRef::as_ref), parsed)
    }

    /// Like [`compile`](Self::compile), from a `FileDescriptorSet` that `protoc` or `buf` wrote, imports included: for
    /// files in an edition of protobuf, which the built-in parser does not read. `buf build -o set.binpb`, or
    /// `protoc --include_imports --include_source_info -o set.binpb`.
    ///
    /// # Errors
    /// [`Error`] names file and fix.
    pub fn compile_descriptors(&self, set: impl AsRef<Path>) -> Result<(), Error> {
        let path = set.as_ref();
        let told = |text: String| Error::Proto {
            place: path.display().to_string(),
            text,
        };
        let parsed = std::fs::read(path)
            .map_err(|error| told(format!("can't be read: {error}")))
            .and_then(|bytes| Parsed::decode(path, &bytes));
        self.write(std::iter::once(path), parsed)
    }

    /// Compiles the files and returns the output.
    ///
    /// # Errors
    /// [`Error`] names file, line and fix.
    pub fn generate<P: AsRef<Path>>(&self, protos: &[P]) -> Result<String, Error> {
        self.text(&self.parse(protos)?)
    }

    /// Writes the output, and tells cargo what it was made from.
    fn write<'a>(
        &self,
        named: impl Iterator<Item = &'a Path>,
        parsed: Result<Parsed, Error>,
    ) -> Result<(), Error> {
        let from_cargo = std::env::var_os("OUT_DIR").map(PathBuf::from);
        if from_cargo.is_some() {
            // Those that can't be parsed have to be watched too.
            named.for_each(watch);
            let imported = parsed.iter().flat_map(|parsed| &parsed.paths);
            imported.for_each(|path| watch(path));
        }
        let out_dir = self.out_dir.clone().or(from_cargo);
        let out_dir = out_dir.ok_or_else(|| Error::Setting {
            setting: "out_dir".to_owned(),
            text: "is not set, and this is no build script; name a folder".to_owned(),
        })?;
        let parsed = parsed?;
        if let Some(path) = &self.c_header {
            let name = path.file_stem().map(|name| name.to_string_lossy());
            let source = format!("{}.proto", name.unwrap_or_default());
            let header = crate::c_header::emit(&crate::services::constants(&parsed), &source, "");
            std::fs::write(path, header).map_err(|error| Error::Write {
                path: path.clone(),
                kind: error.kind(),
            })?;
        }
        let text = self.text(&parsed)?;
        let path = out_dir.join(format!("{}.rs", self.file_name));
        std::fs::write(&path, text).map_err(|error| Error::Write {
            path,
            kind: error.kind(),
        })
    }

    fn parse<P: AsRef<Path>>(&self, protos: &[P]) -> Result<Parsed, Error> {
        let protos: Vec<&Path> = protos.iter().map(AsRef::as_ref).collect();
        Parsed::read(&protos, &self.includes)
    }

    fn text(&self, parsed: &Parsed) -> Result<String, Error> {
        let runtime: TokenStream = self.path("runtime", &self.runtime)?;
        let messages = Messages {
            library: self.library,
            externs: &self.externs,
            keeps_unknown_fields: self.keeps_unknown_fields,
            runtime: &self.runtime,
        };
        let generated = messages.generate(parsed)?;
        let services = Services {
            parsed,
            plain: &self.plain,
            runtime: &runtime,
        };
        let mut tree = Tree::default();
        for (module, tokens) in generated.items {
            tree.at(&module).extend(tokens);
        }
        for (package, tokens) in services.generate(&generated.types)? {
            let module = generated.modules.get(&package).unwrap_or(&package);
            tree.at(module).extend(tokens);
        }
        let tokens = paths::rewrite(tree.tokens(), &runtime);
        let file = syn::parse2(tokens).map_err(|error| Error::Messages {
            text: format!("the output is no Rust: {error}"),
        })?;
        let header = "// Generated by ringway-build from .proto files. Changes are lost.\n\n";
        Ok(format!("{header}{}", prettyplease::unparse(&file)))
    }

    fn path(&self, setting: &str, path: &str) -> Result<TokenStream, Error> {
        let parsed = syn::parse_str::<syn::Path>(path);
        let path = parsed.map_err(|_error| Error::Setting {
            setting: format!("{setting}({path:?})"),
            text: "is no path; write one like `::ringway::rpc`".to_owned(),
        })?;
        Ok(quote::ToTokens::to_token_stream(&path))
    }
}

/// Tells cargo to run the build script again when a file changes.
#[expect(clippy::print_stdout, reason = "this is how cargo is told")]
pub(crate) fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}
