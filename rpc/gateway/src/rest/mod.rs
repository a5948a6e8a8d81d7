//! REST: the rules of `google.api.http` at run time, on JSON.
//!
//! A request's path finds a method's rule, path, query and body become its message ([`request`]), the call is made,
//! and the answer becomes JSON again ([`answer`]).

mod answer;
mod mask;
mod pack;
mod request;
mod stream;
mod value;

use std::rc::Rc;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode};
use hyper::body::Incoming;
use ringway_rpc::{Code, Metadata};

use crate::backend::{End, Options};
use crate::body::{Answers, Body, Refusal, collect};
use crate::error::SchemaError;
use crate::gateway::Shared;
use crate::router::{Found, Router};
use crate::schema::{Method, Rule, Schema, Verb};
use crate::status::bad_request;
use crate::{metadata, pages, status, timeout};

pub(crate) use pack::{Unpack, accepts_gzip, gunzip, gzip};
pub(crate) use value::is_http_body;

/// A binding of a method.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) rule: Rule,
}

/// Where each path leads.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    router: Router<usize>,
    all: Vec<Rc<Route>>,
}

impl Routes {
    pub(crate) fn new(schema: &Schema) -> Result<Self, SchemaError> {
        let mut routes = Self::default();
        for method in schema.methods() {
            for rule in &method.rules {
                let verb = match &rule.verb {
                    Verb::Any => None,
                    Verb::One(verb) => Some(&**verb),
                };
                if let Some(other) = routes.router.add(verb, &rule.template, routes.all.len()) {
                    let other = routes
                        .all
                        .get(other)
                        .map_or("another method", |it| &it.method.name);
                    return Err(SchemaError::Rule {
                        method: method.name.clone(),
                        text: format!("`{other}` has the same path already; change one of them"),
                    });
                }
                routes.all.push(Rc::new(Route {
                    method: method.clone(),
                    rule: rule.clone(),
                }));
            }
        }
        Ok(routes)
    }

    fn find(&self, method: &HttpMethod, path: &str) -> Result<(Rc<Route>, Vec<String>), Refusal> {
        let malformed = |_malformed| {
            let text = "the path is malformed: wrong escapes, no UTF-8, or `..`";
            Refusal::from(bad_request("", text))
        };
        let mut found = self.router.find(method.as_str(), path).map_err(malformed)?;
        if *method == HttpMethod::HEAD && !matches!(found, Found::Match(..)) {
            // What can be read can be asked for its headers.
            found = self.router.find("GET", path).map_err(malformed)?;
        }
        let nothing = || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                Code::NotFound,
                "there is no such path",
            )
        };
        match found {
            Found::Match(at, captures) => {
                let route = self.all.get(at).ok_or_else(nothing)?;
                Ok((Rc::clone(route), captures))
            }
            Found::Methods(methods) => {
                let text = format!("the path takes {} only", methods.join(", "));
                Err(Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    Code::Unimplemented,
                    &text,
                ))
            }
            Found::Nothing => Err(nothing()),
        }
    }

    /// The methods that a path takes, for `Allow`.
    fn methods(&self, path: &str) -> Vec<String> {
        match self.router.find(" ", path) {
            Ok(Found::Methods(methods)) => methods,
            _ => Vec::new(),
        }
    }
}

/// Answers one request.
pub(crate) async fn handle(shared: &Rc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let is_head = request.method() == HttpMethod::HEAD;
    let accepts_gzip = accepts_gzip(request.headers());
    let document = shared.document.as_ref();
    let own = document.and_then(|it| it.answer(request.method(), &path, request.headers()));
    let own = own.or_else(|| {
        let graph = shared.graph.as_ref().filter(|_| shared.config.docs);
        graph.and_then(|_| pages::graphiql(request.method(), &path, request.headers()))
    });
    let called = match own {
        Some(mut response) => {
            common(response.headers_mut());
            Ok(response)
        }
        None => call(shared, request).await,
    };
    let response = match called {
        Ok(response) => response,
        Err(refusal) => {
            let mut response = refuse(shared, &refusal);
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = shared.routes.methods(&path).join(", ");
                if let Ok(allowed) = HeaderValue::from_str(&allowed) {
                    response.headers_mut().insert(ALLOW, allowed);
                }
            }
            response
        }
    };
    let response = pack::pack(response, accepts_gzip);
    if is_head {
        without_body(response)
    } else {
        response
    }
}

fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Body::Whole(Some(bytes), _) = &body {
        head.headers
            .insert(http::header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    Response::from_parts(head, Body::empty())
}

/// A status as JSON.
pub(crate) fn refuse(shared: &Shared, refusal: &Refusal) -> Response<Body> {
    let http = refusal
        .http
        .unwrap_or_else(|| status::http(refusal.status.code));
    let json = status::to_json(&refusal.status, shared.schema.pool());
    let mut response = json_response(http, json.to_string());
    if refusal.http == Some(StatusCode::UNSUPPORTED_MEDIA_TYPE) {
        let accepted = HeaderValue::from_static("gzip, identity");
        response
            .headers_mut()
            .insert(http::header::ACCEPT_ENCODING, accepted);
    }
    response
}

fn json_response(http: StatusCode, json: String) -> Response<Body> {
    let mut response = Response::new(Body::of(json));
    *response.status_mut() = http;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    common(headers);
    response
}

/// What stands on every answer: nobody knows for how long it is true, and no browser guesses what it is.
fn common(headers: &mut HeaderMap) {
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
}

/// The end of a call as JSON, with its metadata.
fn failed(shared: &Shared, end: &End) -> Response<Body> {
    let mut response = refuse(shared, &Refusal::from(end.status.clone()));
    answer_headers(shared, &end.metadata, response.headers_mut());
    response
}

fn answer_headers(shared: &Shared, metadata: &Metadata<'_>, headers: &mut HeaderMap) {
    metadata::to_headers(
        metadata,
        &shared.config.response_metadata,
        Some(headers),
        None,
    );
}

/// What a request came to before its body was read.
pub(crate) struct Asked {
    pub(crate) shared: Rc<Shared>,
    pub(crate) route: Rc<Route>,
    /// Values of the path's variables.
    pub(crate) captures: Vec<String>,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) verb: HttpMethod,
}

async fn call(shared: &Rc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let (head, mut body) = request.into_parts();
    let (route, captures) = shared.routes.find(&head.method, head.uri.path())?;
    let asked = Asked {
        shared: Rc::clone(shared),
        route: Rc::clone(&route),
        captures,
        query: head.uri.query().unwrap_or_default().to_owned(),
        verb: head.method,
        headers: head.headers,
    };
    let (config, method) = (&shared.config, &route.method);
    let mut options = Options {
        metadata: metadata::of_headers(&asked.headers, &config.request_metadata)?,
        timeout: timeout::of_call(&asked.headers, config, method.kind)?,
    };
    let shaped = answer::Shape::of(&asked);
    let mut answers = if method.kind.client_streams() {
        stream::open(asked, options, body).await?
    } else {
        let raw = options.receive(collect(shared, &mut body)).await?;
        let raw = pack::unpack(&asked.headers, raw, config.message_bytes_max)?;
        let message = request::message(&asked, &raw)?;
        let (_sink, source) = shared.backend.open(method, &options, Some(&message), true);
        Answers::of(source)
    };
    if method.kind.server_streams() {
        let first = answers.next().await;
        return Ok(answer::stream(shaped, first, answers));
    }
    Ok(match answers.answer().await {
        Ok((message, end)) => answer::unary(&shaped, &message, &end),
        Err(end) => failed(shared, &end),
    })
}
