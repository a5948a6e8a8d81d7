//! GraphQL from the same definitions: methods without side effects are queries, other unary ones mutations, streams of
//! answers subscriptions.
//!
//! The schema is made once, when the gateway starts ([`types`]); a document is measured before anything of it runs
//! ([`limits`]). Its executor wants futures for any thread, so calls go through a bounded queue to tasks of the
//! gateway's own thread ([`calls`]). Streams of requests have no place in GraphQL; such methods are left out.

mod calls;
mod http;
mod input;
mod limits;
mod output;
mod socket;
mod types;

use std::rc::Rc;

use ::http::{Request, Response};
use async_graphql::dynamic::Schema as Executable;
use hyper::body::Incoming;

use crate::body::Body;
use crate::error::SchemaError;
use crate::gateway::Shared;
use crate::schema::Schema;

use calls::Jobs;

/// The schema, and the queue of calls that its resolvers make.
#[derive(Debug)]
pub(crate) struct Graph {
    executable: Executable,
    roots: types::Roots,
}

/// What a graph needs to be served: the other end of its queue.
#[derive(Debug)]
pub(crate) struct Work(Jobs);

impl Graph {
    pub(crate) fn new(schema: &Schema) -> Result<(Self, Work), SchemaError> {
        let (calls, jobs) = calls::queue();
        let (executable, roots) = types::build(schema, &calls)?;
        Ok((Self { executable, roots }, Work(jobs)))
    }
}

/// Makes the calls of all resolvers, for as long as the gateway lives.
pub(crate) async fn work(shared: Rc<Shared>, work: Work) {
    calls::serve(shared, work.0).await;
}

/// Answers a request if it is for the graph.
pub(crate) async fn handle(
    shared: &Rc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Request<Incoming>> {
    match &shared.graph {
        Some(graph) if request.uri().path() == "/graphql" => {
            Ok(http::handle(shared, graph, request).await)
        }
        _ => Err(request),
    }
}
