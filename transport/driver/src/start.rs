//! Why a driver could not start, with the fix in the text. Shared by the kernel drivers.

use std::{fmt, io};

/// Why a driver could not start. The text names cause and fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The system refused a call without which there is no driver.
    System {
        /// The system call that failed.
        call: &'static str,
        /// What it said.
        error: io::Error,
        /// What to do about it.
        fix: &'static str,
    },
    /// This kernel, or its configuration, lacks something.
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
    /// A field of the configuration is out of its range.
    Config {
        /// Name of the field.
        field: &'static str,
        /// Its range.
        range: &'static str,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { call, error, fix } => write!(f, "{call}: {error}; {fix}"),
            Self::Unsupported { what, fix } => write!(f, "{what}; {fix}"),
            Self::Config { field, range } => write!(f, "`{field}` must be {range}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}
