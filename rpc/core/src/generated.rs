//! The crates that generated code names, and the macro that brings it into a program.

#[cfg(feature = "protobuf")]
pub use ::buffa;
#[cfg(feature = "protobuf")]
pub use ::buffa_types;
pub use ::bytemuck;
#[cfg(feature = "prost")]
pub use ::prost;
#[cfg(feature = "prost")]
pub use ::prost_types;

/// Includes what `ringway-build` made of the `.proto` files, as one module per package.
///
/// `include_proto!()` stands for the output of a build script that names no file of its own;
/// `include_proto!("name")` for that of one that calls `file_name("name")`.
///
/// ```ignore
/// ringway::rpc::include_proto!();
///
/// use kv::{KeyValueClient, KeyValueServer};
/// ```
#[macro_export]
macro_rules! include_proto {
    () => {
        $crate::include_proto!("ringway");
    };
    ($name:literal) => {
        include!(concat!(env!("OUT_DIR"), "/", $name, ".rs"));
    };
}
