//! Pages that are a part of the program, so that they work without the internet: Swagger UI and GraphiQL.

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::openapi::wrong_method;
use crate::rest::{accepts_gzip, gunzip};

/// Nothing from elsewhere; the pages set styles and images by themselves.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; \
     worker-src 'self' blob:; frame-ancestors 'none'";
/// More than any of them unpacks to.
const FILE_BYTES_MAX: usize = 4 << 20;

struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    is_packed: bool,
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($path:literal, $kind:expr, $name:literal) => {
        File {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("../ui/", $name)),
            is_packed: false,
        }
    };
    ($path:literal, $kind:expr, packed $name:literal) => {
        File {
            is_packed: true,
            ..file!($path, $kind, $name)
        }
    };
}

const DOCS: &[File] = &[
    file!("/docs", HTML, "pages/docs.html"),
    file!("/docs/start.js", SCRIPT, "pages/docs.js"),
    file!("/docs/swagger-ui-bundle.js", SCRIPT, packed "swagger-ui-bundle.js.gz"),
    file!("/docs/swagger-ui.css", STYLE, packed "swagger-ui.css.gz"),
];

const GRAPHIQL: &[File] = &[
    file!("/graphiql", HTML, "pages/graphiql.html"),
    file!("/graphiql/start.js", SCRIPT, "pages/graphiql.js"),
    file!("/graphiql/start.css", STYLE, "pages/graphiql.css"),
    file!("/graphiql/graphiql.js", SCRIPT, packed "graphiql.js.gz"),
    file!("/graphiql/graphiql.css", STYLE, packed "graphiql.css.gz"),
    file!("/graphiql/react.js", SCRIPT, packed "react.js.gz"),
    file!("/graphiql/react-dom.js", SCRIPT, packed "react-dom.js.gz"),
];

/// The answer to a path of the page that shows the OpenAPI document.
pub(crate) fn docs(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    answer(DOCS, "/docs", method, path, headers)
}

/// The answer to a path of the page that speaks GraphQL.
pub(crate) fn graphiql(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    answer(GRAPHIQL, "/graphiql", method, path, headers)
}

fn answer(
    files: &[File],
    root: &'static str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    let below = path.strip_prefix(root)?;
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if matches!(below, "/" | "/index.html") {
        return Some(if is_read { moved(root) } else { wrong_method() });
    }
    let file = files.iter().find(|it| it.path == path)?;
    if !is_read {
        return Some(wrong_method());
    }
    let mut response = Response::new(Body::empty());
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    head.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let body = if !file.is_packed {
        Body::of(file.bytes)
    } else if accepts_gzip(headers) {
        head.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        Body::of(file.bytes)
    } else {
        // It is ours: it unpacks.
        Body::of(gunzip(file.bytes, FILE_BYTES_MAX).unwrap_or_default())
    };
    *response.body_mut() = body;
    Some(response)
}

fn moved(root: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static(root));
    response
}
