//! OpenAPI 3.1 from the same definitions: every binding is an operation, every message a schema.
//!
//! The document is made once, when the gateway starts. It is the same for the same definitions: paths in the order of
//! methods, schemas sorted by name.

mod paths;
mod schemas;
mod yaml;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::body::Body;
use crate::config::JsonOptions;
use crate::pages;
use crate::schema::Schema;

/// The document in both spellings.
#[derive(Debug)]
pub(crate) struct Document {
    json: Bytes,
    yaml: Bytes,
}

impl Document {
    pub(crate) fn new(schema: &Schema, options: &JsonOptions) -> Self {
        let document = document(schema, options);
        let json = serde_json::to_string_pretty(&document).unwrap_or_default();
        Self {
            json: json.into(),
            yaml: yaml::write(&document).into(),
        }
    }

    /// The answer to a path that belongs to the document or its page.
    pub(crate) fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Body>> {
        let (kind, bytes) = match path {
            "/openapi.json" => ("application/json", self.json.clone()),
            "/openapi.yaml" => ("application/yaml", self.yaml.clone()),
            _ => return pages::docs(method, path, headers),
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Some(wrong_method());
        }
        let mut response = Response::new(Body::of(bytes));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        *response.status_mut() = StatusCode::OK;
        Some(response)
    }
}

fn document(schema: &Schema, options: &JsonOptions) -> Value {
    let mut schemas = schemas::Schemas::new(schema, options);
    let paths = paths::all(schema, &mut schemas);
    let services: Vec<_> = {
        let mut services: Vec<_> = Vec::new();
        for method in schema.methods().iter().filter(|it| !it.rules.is_empty()) {
            let service = method.descriptor.parent_service().clone();
            if services.last() != Some(&service) {
                services.push(service);
            }
        }
        services
    };
    let tags = services.iter().map(|service| {
        let mut tag = json!({ "name": service.full_name() });
        if let Some(text) = schema.comments().at(&service.parent_file(), service.path()) {
            tag["description"] = text.into();
        }
        tag
    });
    let names: Vec<&str> = services
        .iter()
        .map(prost_reflect::ServiceDescriptor::name)
        .collect();
    let tags: Vec<Value> = tags.collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": names.join(", "), "version": "1" },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas.finish() },
    })
}

/// Documents and pages are only read.
pub(crate) fn wrong_method() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}
