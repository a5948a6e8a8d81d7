//! In the place of GraphQL in a program that was built without it.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::body::Body;
use crate::error::SchemaError;
use crate::gateway::Shared;
use crate::schema::Schema;

/// There is none.
#[derive(Debug)]
pub(crate) enum Graph {}

/// Nothing to do.
#[derive(Debug)]
pub(crate) enum Work {}

impl Graph {
    pub(crate) fn new(_schema: &Schema) -> Result<(Self, Work), SchemaError> {
        Err(SchemaError::Descriptors(
            "this program was built without the cargo feature `graphql`".to_owned(),
        ))
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
