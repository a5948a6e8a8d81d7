//! Traces of connections in the qlog format, for qvis and other viewers; with the feature `qlog`.

#[cfg(not(feature = "qlog"))]
mod off;
#[cfg(feature = "qlog")]
mod on;

#[cfg(not(feature = "qlog"))]
pub use self::off::Qlog;
#[cfg(feature = "qlog")]
pub use self::on::Qlog;
