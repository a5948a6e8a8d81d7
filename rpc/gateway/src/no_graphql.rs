//! In the place of GraphQL in a program that was built without it.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::body::Body;
use crate::error::GatewayError;
use crate::gateway::Shared;
use crate::schema::Schema;

/// There is none.
#[derive(Debug)]
pub(crate) enum Graph {}

/// Nothing to do.
#[derive(Debug)]
pub(crate) enum Work {}

impl Graph {
    pub(crate) fn new(_schema: &Schema, _sockets: usize) -> Result<(Self, Work), GatewayError> {
        Err(GatewayError::Setting {
            field: "graphql",
            wanted: "off: this program was built without the cargo feature `graphql`",
        })
    }

    /// Nothing to do.
    pub(crate) fn stop(&self) {
        match *self {}
    }

    /// Nothing to do.
    pub(crate) async fn stopped(&self) {
        match *self {}
    }
}

/// Nothing to do.
pub(crate) async fn work(_shared: Rc<Shared>, work: Work) {
    match work {}
}

/// No request is for it.
pub(crate) async fn handle(
    _shared: &Rc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Request<Incoming>> {
    Err(request)
}
