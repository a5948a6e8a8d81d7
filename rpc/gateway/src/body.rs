//! Bodies of requests and responses, and the task that carries a request's stream into a call.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ringway_rpc::{Code, Status};
use tokio::task::{AbortHandle, spawn_local};

use crate::backend::{End, Source};
use crate::gateway::Shared;

/// A response that is cut because it can't be finished; its client sees a broken connection or a reset stream.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response was cut")
    }
}

impl std::error::Error for Cut {}

/// A response that comes bit by bit.
pub(crate) trait Frames {
    /// The next frame; `None` after the last one.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>>;
}

/// A response's body.
pub(crate) enum Body {
    /// All of it, and trailers.
    Whole(Option<Bytes>, Option<Box<HeaderMap>>),
    Stream(Box<dyn Frames>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(..) => "Whole",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::Whole(None, None)
    }

    pub(crate) fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()), None)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(data, trailers) => {
                let data = data.take().filter(|it| !it.is_empty()).map(Frame::data);
                let frame = data.or_else(|| trailers.take().map(|it| Frame::trailers(*it)));
                Poll::Ready(frame.map(Ok))
            }
            Self::Stream(frames) => frames.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(data, trailers) => {
                data.as_ref().is_none_or(Bytes::is_empty) && trailers.is_none()
            }
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(data, _) => {
                SizeHint::with_exact(data.as_ref().map_or(0, |it| it.len() as u64))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Why a request is not served, with the HTTP status where that of the code is not the right one.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    pub(crate) http: Option<StatusCode>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, http: None }
    }
}

impl Refusal {
    pub(crate) fn new(http: StatusCode, code: Code, text: &str) -> Self {
        Self {
            status: Status::new(code, text).not_started(),
            http: Some(http),
        }
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let text = format!("the message is longer than {bytes_max} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::ResourceExhausted,
            &text,
        )
    }
}

fn broken() -> Status {
    Status::of(Code::Cancelled, "the request's body broke off")
}

/// How many bytes of requests may be held that have not come as a whole yet.
#[derive(Debug)]
pub(crate) struct Budget(Rc<Cell<usize>>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Rc::new(Cell::new(bytes)))
    }

    /// A share of it, empty yet.
    pub(crate) fn hold(&self) -> Held {
        Held {
            left: Rc::clone(&self.0),
            bytes: 0,
        }
    }
}

/// What one request holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    left: Rc<Cell<usize>>,
    bytes: usize,
}

impl Held {
    /// Holds this many bytes from now on.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED: there are not as many.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let left = (self.left.get() + self.bytes).checked_sub(bytes);
        let full = "too many bytes of requests are held; try again later";
        let left = left.ok_or_else(|| Status::of(Code::ResourceExhausted, full).not_started())?;
        self.left.set(left);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.left.set(self.left.get() + self.bytes);
    }
}

/// The whole body of a request.
pub(crate) async fn collect(shared: &Shared, body: &mut Incoming) -> Result<Bytes, Refusal> {
    let bytes_max = shared.config.message_bytes_max;
    let mut held = shared.bodies.hold();
    let all = async {
        let (mut first, mut rest) = (None, BytesMut::new());
        let mut len = 0_usize;
        while let Some(frame) = next_data(body).await? {
            len = len.saturating_add(frame.len());
            if len > bytes_max {
                return Err(Refusal::too_large(bytes_max));
            }
            held.set(len)?;
            match (&first, rest.is_empty()) {
                // What came in one piece is not copied.
                (None, true) => first = Some(frame),
                _ => {
                    rest.extend(first.take());
                    rest.extend_from_slice(&frame);
                }
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    };
    match tokio::time::timeout(shared.config.body_timeout, all).await {
        Ok(collected) => collected,
        Err(_late) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::DeadlineExceeded,
            "the request's body took too long",
        )),
    }
}

/// The next piece of a request's body; trailers are nothing to us.
pub(crate) async fn next_data(body: &mut Incoming) -> Result<Option<Bytes>, Status> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_error| broken())?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// What went wrong with a request's stream while its call was under way.
#[derive(Default)]
struct Fault {
    status: RefCell<Option<Status>>,
    waker: Cell<Option<Waker>>,
}

/// The answers of a call whose request may still be coming.
pub(crate) struct Answers {
    source: Source,
    fault: Rc<Fault>,
    task: Option<AbortHandle>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Answers {
    /// Of a call whose request is complete.
    pub(crate) fn of(source: Source) -> Self {
        Self {
            source,
            fault: Rc::default(),
            task: None,
        }
    }

    /// Of a call whose request `inflow` carries. When that fails, the call is cancelled and ends with its status.
    pub(crate) fn with(
        source: Source,
        inflow: impl Future<Output = Result<(), Status>> + 'static,
    ) -> Self {
        let fault = Rc::<Fault>::default();
        let shared = Rc::clone(&fault);
        let task = spawn_local(async move {
            if let Err(status) = inflow.await {
                shared.status.replace(Some(status));
                if let Some(waker) = shared.waker.take() {
                    waker.wake();
                }
            }
        });
        Self {
            source,
            fault,
            task: Some(task.abort_handle()),
        }
    }

    /// The next message, or the end of the call.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, End>> {
        if self.task.is_some() {
            if let Some(status) = self.fault.status.take() {
                // Letting go of the source cancels the call.
                self.source = Source::Closed(None);
                return Poll::Ready(Err(End::of(status)));
            }
            self.fault.waker.set(Some(cx.waker().clone()));
        }
        self.source.poll_next(cx)
    }

    pub(crate) async fn next(&mut self) -> Result<Bytes, End> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The one answer of a call that answers once.
    pub(crate) async fn answer(mut self) -> Result<(Bytes, End), End> {
        loop {
            match self.next().await {
                Ok(_message) => {}
                Err(end) => return end.into_answer(),
            }
        }
    }
}
