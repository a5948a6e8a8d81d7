//! Whom the gateway calls: a server through a channel, or services in this thread.
//!
//! Adapters see one call as two ends: a [`Sink`] that takes messages and a [`Source`] that gives them. Dropping the
//! sink says that no more follows, dropping the source before its end cancels the call.

mod local;

use core::fmt;
use core::task::{Context, Poll};
use core::time::Duration;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use ringway_rpc::{
    CallOptions, Channel, Code, Incoming, Metadata, MetadataBuf, Outgoing, Raw, Status,
};

pub(crate) use local::Local;
use local::{LocalSink, LocalSource};

use crate::schema::Method;

/// Whom to call. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Backend {
    Remote(Channel),
    Local(Rc<Local>),
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remote(_) => "Remote",
            Self::Local(_) => "Local",
        })
    }
}

/// What a call is made with.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) metadata: MetadataBuf,
    pub(crate) timeout: Option<Duration>,
}

impl Options {
    /// Receives a request before its call is made, within the call's own time.
    ///
    /// # Errors
    /// Those of `coming`; DEADLINE_EXCEEDED when the time is over before the request is there.
    pub(crate) async fn receive<T, E: From<Status>>(
        &mut self,
        coming: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Some(timeout) = self.timeout else {
            return coming.await;
        };
        let begun = Instant::now();
        let came = tokio::time::timeout(timeout, coming).await;
        let late = |_late| {
            Status::of(
                Code::DeadlineExceeded,
                "the request took longer than its call may",
            )
        };
        let came = came.map_err(late)??;
        self.timeout = Some(timeout.saturating_sub(begun.elapsed()));
        Ok(came)
    }
}

/// The end of a call.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: Status,
    pub(crate) metadata: Metadata<'static>,
    /// The answer of a call that does not stream.
    pub(crate) message: Option<Bytes>,
}

impl End {
    pub(crate) fn of(status: Status) -> Self {
        Self {
            status,
            metadata: Metadata::EMPTY,
            message: None,
        }
    }

    /// The one answer of a call that answers once, and the rest of its end.
    pub(crate) fn into_answer(mut self) -> Result<(Bytes, Self), Self> {
        if !self.status.is_ok() {
            return Err(self);
        }
        match self.message.take() {
            Some(message) => Ok((message, self)),
            None => Err(Self::of(Status::of(
                Code::Internal,
                "the call ended well without an answer",
            ))),
        }
    }
}

/// Where a call's messages go.
pub(crate) enum Sink {
    Remote(Outgoing<Raw, [u8]>),
    Local(LocalSink),
    /// The call never began.
    Closed,
}

impl Sink {
    /// Sends a message when there is room.
    ///
    /// # Errors
    /// The call is over; its source tells how.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), Status> {
        match self {
            Self::Remote(out) => out.send(message).await,
            Self::Local(out) => out.send(message).await,
            Self::Closed => Err(Status::of(Code::Cancelled, "the call is over")),
        }
    }
}

/// Where a call's messages come from.
pub(crate) enum Source {
    Remote(Incoming<Raw, Vec<u8>>),
    Local(LocalSource),
    /// The gateway answers by itself.
    Own(tokio::sync::mpsc::Receiver<Bytes>),
    /// The call never began: its end, to be told once.
    Closed(Option<Box<End>>),
}

impl Source {
    /// The next message, or the end of the call.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        match self {
            Self::Remote(incoming) => incoming.poll_pass(cx).map(|came| {
                came.map(Bytes::from_owner).map_err(|answer| End {
                    metadata: answer.metadata().into_owned(),
                    status: answer.status,
                    message: answer.message.map(Bytes::from_owner),
                })
            }),
            Self::Local(source) => source.poll_next(cx),
            Self::Own(answers) => {
                let over = || End::of(Status::OK);
                answers.poll_recv(cx).map(|came| came.ok_or_else(over))
            }
            Self::Closed(end) => {
                let over = || End::of(Status::of(Code::Cancelled, "the call is over"));
                Poll::Ready(Err(end.take().map_or_else(over, |it| *it)))
            }
        }
    }
}

impl Backend {
    /// Begins a call, with its first message or without; with `end` the client says no more.
    pub(crate) fn open(
        &self,
        method: &Method,
        options: &Options,
        first: Option<&[u8]>,
        end: bool,
    ) -> (Sink, Source) {
        match self {
            Self::Remote(channel) => {
                let options = CallOptions {
                    timeout: options.timeout,
                    metadata: options.metadata.bytes(),
                    ..CallOptions::default()
                };
                let methods = method.siblings.clone();
                let (out, incoming) = channel.open(methods, method.index, first, end, &options);
                (Sink::Remote(out), Source::Remote(incoming))
            }
            Self::Local(local) => match Local::open(local, method, options, first, end) {
                Ok((sink, source)) => (Sink::Local(sink), Source::Local(source)),
                Err(status) => {
                    let end = End::of(status);
                    (Sink::Closed, Source::Closed(Some(Box::new(end))))
                }
            },
        }
    }
}
