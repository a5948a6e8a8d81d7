//! The page that shows the document: Swagger UI, a part of the program, so that it works without the internet.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::wrong_method;
use crate::body::Body;
use crate::rest::{accepts_gzip, gunzip};

const HTML: &str = r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Operations</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"##;

const START: &str = r##"SwaggerUIBundle({ url: "/openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null });
"##;

/// Nothing from elsewhere; Swagger UI sets styles and images by itself.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

const BUNDLE: &[u8] = include_bytes!("../../ui/swagger-ui-bundle.js.gz");
const STYLE: &[u8] = include_bytes!("../../ui/swagger-ui.css.gz");
/// More than any of them unpacks to.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The answer to a path of the page.
pub(super) fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (kind, bytes, is_packed) = match path {
        "/docs" | "/docs/" => ("text/html; charset=utf-8", HTML.as_bytes(), false),
        "/docs/start.js" => ("text/javascript", START.as_bytes(), false),
        "/docs/swagger-ui-bundle.js" => ("text/javascript", BUNDLE, true),
        "/docs/swagger-ui.css" => ("text/css", STYLE, true),
        "/docs/index.html" => return Some(moved()),
        _ => return None,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(wrong_method());
    }
    let mut response = Response::new(Body::empty());
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    head.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let body = if !is_packed {
        Body::of(bytes)
    } else if accepts_gzip(headers) {
        head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Body::of(bytes)
    } else {
        // It is ours: it unpacks.
        Body::of(gunzip(bytes, PAGE_BYTES_MAX).unwrap_or_default())
    };
    *response.body_mut() = body;
    Some(response)
}

fn moved() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static("/docs"));
    response
}
