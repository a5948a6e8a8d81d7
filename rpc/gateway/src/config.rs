//! Settings and limits of a gateway.

use core::time::Duration;

use crate::error::GatewayError;

/// How messages look as JSON. `Default` is protobuf's own mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Write fields that have their default value. Default off.
    pub defaults: bool,
    /// Write names as in the `.proto` instead of lowerCamelCase; both are read in any case. Default off.
    pub proto_names: bool,
    /// Write enums as numbers. Default off.
    pub enum_numbers: bool,
    /// Ignore fields and query parameters that nobody knows, instead of answering 400. Default off.
    pub ignore_unknown: bool,
}

/// Settings of a gateway; setters take and return it. Checked by [`Gateway::serve`](crate::Gateway::serve).
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    pub(crate) message_bytes_max: usize,
    pub(crate) bodies_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) streams_max: u32,
    pub(crate) header_bytes_max: u32,
    pub(crate) header_timeout: Duration,
    pub(crate) body_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) unary_timeout: Option<Duration>,
    pub(crate) drain_timeout: Duration,
    pub(crate) origins: Vec<String>,
    pub(crate) request_metadata: Vec<String>,
    pub(crate) response_metadata: Vec<String>,
    pub(crate) json: JsonOptions,
    pub(crate) docs: bool,
    pub(crate) graphql: bool,
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: 4 << 20,
            bodies_bytes_max: 256 << 20,
            connections_max: 1024,
            streams_max: 128,
            header_bytes_max: 16 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            unary_timeout: Some(Duration::from_secs(60)),
            drain_timeout: Duration::from_secs(5),
            origins: Vec::new(),
            request_metadata: names(&[
                "authorization",
                "user-agent",
                "request-id",
                "tenant",
                "x-*",
                "*-bin",
            ]),
            response_metadata: names(&["request-id", "x-*", "trailer-x-*", "*-bin"]),
            json: JsonOptions::default(),
            docs: false,
            graphql: false,
        }
    }
}

impl GatewayConfig {
    /// Longest message, both ways, unpacked. Default 4 MiB, 1 KiB to 1 GiB. Longer requests are answered 413, or
    /// RESOURCE_EXHAUSTED.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Bytes of all requests together that have not come as a whole yet. Default 256 MiB; never less than one message
    /// has. Requests beyond it are answered 429, or RESOURCE_EXHAUSTED.
    #[must_use]
    pub fn bodies_bytes_max(mut self, bytes: usize) -> Self {
        self.bodies_bytes_max = bytes;
        self
    }

    /// Connections at once; further ones wait in the kernel's queue. Default 1,024.
    #[must_use]
    pub fn connections_max(mut self, count: usize) -> Self {
        self.connections_max = count;
        self
    }

    /// Calls at once on one HTTP/2 connection; further ones wait at the client. Default 128.
    #[must_use]
    pub fn streams_max(mut self, count: u32) -> Self {
        self.streams_max = count;
        self
    }

    /// Bytes of a request's headers. Default 16 KiB, at least 8 KiB. Beyond: 431.
    #[must_use]
    pub fn header_bytes_max(mut self, bytes: u32) -> Self {
        self.header_bytes_max = bytes;
        self
    }

    /// How long a client may take for its headers. Default 10 s. Then the connection is closed.
    #[must_use]
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// How long a client may take for the body of a call that does not stream. Default 60 s. Then: 408.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// How long a client may take no byte of what is written to it. Default 30 s. Then the connection is closed and
    /// its calls are cancelled.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Deadline of calls that do not stream and whose client names none; `None`: none. Default 60 s.
    #[must_use]
    pub fn unary_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.unary_timeout = timeout;
        self
    }

    /// How long calls that are under way may take to end when the gateway stops. Default 5 s.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Web origins whose pages may call, as `https://app.example`, or `*` for every one. Default none: pages of other
    /// origins can't.
    #[must_use]
    pub fn origins(mut self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.origins = origins.into_iter().map(Into::into).collect();
        self
    }

    /// Request headers that become metadata: lower-case names; a `*` at one end stands for anything. Trace context
    /// passes always, what belongs to HTTP, gRPC or ringway never. Default `authorization`, `user-agent`,
    /// `request-id`, `tenant`, `x-*` and `*-bin`.
    #[must_use]
    pub fn request_metadata(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.request_metadata = names.into_iter().map(Into::into).collect();
        self
    }

    /// Metadata of answers that becomes response headers, written as above. Names that begin with `trailer-` become
    /// trailers, where there are such. Default `request-id`, `x-*`, `trailer-x-*` and `*-bin`.
    #[must_use]
    pub fn response_metadata(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.response_metadata = names.into_iter().map(Into::into).collect();
        self
    }

    /// How messages look as JSON.
    #[must_use]
    pub fn json(mut self, json: JsonOptions) -> Self {
        self.json = json;
        self
    }

    /// Serve the definitions as OpenAPI, at `/openapi.json` and `/openapi.yaml`, and, with the cargo feature `ui`, a
    /// page that shows them at `/docs` (and GraphiQL at `/graphiql`, if [`graphql`](Self::graphql) is on). These paths go before those of methods. Default off: whoever can connect can read them.
    #[must_use]
    pub fn docs(mut self, docs: bool) -> Self {
        self.docs = docs;
        self
    }

    /// Serve GraphQL at `/graphql`: methods with `idempotency_level = NO_SIDE_EFFECTS` are queries, other unary ones
    /// mutations, streams of answers subscriptions, by `accept: text/event-stream` or WebSockets (graphql-transport-ws). Needs the cargo feature `graphql`.
    /// Default off.
    #[must_use]
    pub fn graphql(mut self, graphql: bool) -> Self {
        self.graphql = graphql;
        self
    }

    pub(crate) fn check(&self) -> Result<(), GatewayError> {
        let wrong = |field, wanted| Err(GatewayError::Setting { field, wanted });
        if !(1 << 10..=1 << 30).contains(&self.message_bytes_max) {
            return wrong("message_bytes_max", "1 KiB to 1 GiB");
        }
        if !(1..=1 << 20).contains(&self.connections_max) {
            return wrong("connections_max", "1 to 1,048,576");
        }
        if !(1..=1 << 20).contains(&self.streams_max) {
            return wrong("streams_max", "1 to 1,048,576");
        }
        if !(8 << 10..=1 << 20).contains(&self.header_bytes_max) {
            return wrong("header_bytes_max", "8 KiB to 1 MiB");
        }
        let times = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
        ];
        let is_origin = |it: &String| {
            let host = it.split_once("://").map(|(_, host)| host);
            it == "*" || host.is_some_and(|it| !it.is_empty() && !it.contains('/'))
        };
        if !self.origins.iter().all(is_origin) {
            return wrong(
                "origins",
                "`*`, or like https://app.example, without a path",
            );
        }
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((field, _)) => wrong(field, "more than zero"),
            None => Ok(()),
        }
    }
}
