//! Services from .proto files, for build.rs.
