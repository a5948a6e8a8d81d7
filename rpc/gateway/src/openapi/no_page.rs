//! In the place of the page in a program that was built without it.

use http::{HeaderMap, Method, Response};

use crate::body::Body;

/// There is no page.
pub(super) fn answer(
    _method: &Method,
    _path: &str,
    _headers: &HeaderMap,
) -> Option<Response<Body>> {
    None
}
