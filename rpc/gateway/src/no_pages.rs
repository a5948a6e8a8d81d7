//! In the place of the pages in a program that was built without them.

use http::{HeaderMap, Method, Response};

use crate::body::Body;

/// There is no page.
pub(crate) fn docs(_method: &Method, _path: &str, _headers: &HeaderMap) -> Option<Response<Body>> {
    None
}

/// There is no page.
pub(crate) fn graphiql(
    _method: &Method,
    _path: &str,
    _headers: &HeaderMap,
) -> Option<Response<Body>> {
    None
}
