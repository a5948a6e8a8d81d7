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
use std::sync::Arc;

use ::http::{Request, Response};
use async_graphql::dynamic::Schema as Executable;
use hyper::body::Incoming;
use tokio::sync::{Notify, Semaphore};

use crate::body::Body;
use crate::error::GatewayError;
use crate::gateway::Shared;
use crate::schema::Schema;

use calls::Jobs;

/// The schema, and the queue of calls that its resolvers make.
#[derive(Debug)]
pub(crate) struct Graph {
    executable: Executable,
    roots: types::Roots,
    /// Places for WebSockets, which are no HTTP connections any more.
    sockets: Arc<Semaphore>,
    sockets_max: usize,
    /// Wakes them when the gateway stops.
    stopping: Notify,
}

/// What a graph needs to be served: the other end of its queue.
#[derive(Debug)]
pub(crate) struct Work(Jobs);

impl Graph {
    pub(crate) fn new(schema: &Schema, sockets_max: usize) -> Result<(Self, Work), GatewayError> {
        let (calls, jobs) = calls::queue();
        let (executable, roots) = types::build(schema, &calls)?;
        let graph = Self {
            executable,
            roots,
            sockets: Arc::new(Semaphore::new(sockets_max)),
            sockets_max,
            stopping: Notify::new(),
        };
        Ok((graph, Work(jobs)))
    }

    /// Closes all WebSockets.
    pub(crate) fn stop(&self) {
        self.stopping.notify_waiters();
    }

    /// Waits until the clients of all WebSockets were told so.
    pub(crate) async fn stopped(&self) {
        let all = u32::try_from(self.sockets_max).unwrap_or(u32::MAX);
        // Nobody closes the semaphore.
        let _all = self.sockets.acquire_many(all).await;
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
