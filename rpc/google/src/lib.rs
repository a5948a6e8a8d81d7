//! Google's `.proto` files that definitions import for gateways: rules for HTTP, raw bodies, details of errors. Nobody
//! has to copy them.
//!
//! Above stand `ringway-build`, which compiles definitions in build scripts, and `ringway-gateway`, which reads them at
//! run time: both know the same files. The well-known types below `google/protobuf` come from protox.

#![forbid(unsafe_code)]

use protox::file::{File, FileResolver};

/// Names and texts of the files.
pub const FILES: &[(&str, &str)] = &[
    (
        "google/api/annotations.proto",
        include_str!("../proto/google/api/annotations.proto"),
    ),
    (
        "google/api/http.proto",
        include_str!("../proto/google/api/http.proto"),
    ),
    (
        "google/api/httpbody.proto",
        include_str!("../proto/google/api/httpbody.proto"),
    ),
    (
        "google/rpc/code.proto",
        include_str!("../proto/google/rpc/code.proto"),
    ),
    (
        "google/rpc/error_details.proto",
        include_str!("../proto/google/rpc/error_details.proto"),
    ),
    (
        "google/rpc/status.proto",
        include_str!("../proto/google/rpc/status.proto"),
    ),
];

/// Finds [`FILES`] for protox.
#[derive(Clone, Copy, Debug)]
pub struct Google;

impl FileResolver for Google {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match FILES.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}
