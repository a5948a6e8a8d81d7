//! The libraries, each as its documentation shows it.

pub(crate) mod asynchronous;
pub(crate) mod capnp;
pub(crate) mod certificate;
pub(crate) mod quinn;
pub(crate) mod ringway;
pub(crate) mod tarpc;
pub(crate) mod tonic;

#[allow(warnings, reason = "generated code")]
#[rustfmt::skip]
pub(crate) mod echo_capnp;
