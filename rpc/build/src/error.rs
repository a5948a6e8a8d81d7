//! What a build script is told when files can't become Rust.

use core::fmt;
use std::path::PathBuf;

/// Why no code was generated. `Debug` is the text itself: a build script that returns the error from `main` prints
/// it so.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A `.proto` file is wrong, or can't be found.
    Proto {
        /// File, line and column as far as known.
        place: String,
        /// What is wrong, and the fix.
        text: String,
    },
    /// Rust source can't become a C header.
    Source {
        /// The file.
        place: String,
        /// What is wrong, and the fix.
        text: String,
    },
    /// A setting of the builder is wrong.
    Setting {
        /// Which one, as it was called.
        setting: String,
        /// What is wrong, and the fix.
        text: String,
    },
    /// The message library can't express the files.
    Messages {
        /// Its words.
        text: String,
    },
    /// A file can't be written.
    Write {
        /// Which one.
        path: PathBuf,
        /// The cause.
        kind: std::io::ErrorKind,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proto { place, text } | Self::Source { place, text } => {
                write!(f, "{place}: {text}")
            }
            Self::Setting { setting, text } => write!(f, "`{setting}`: {text}"),
            Self::Messages { text } => write!(f, "generating messages: {text}"),
            Self::Write { path, kind } => write!(f, "writing {}: {kind}", path.display()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
