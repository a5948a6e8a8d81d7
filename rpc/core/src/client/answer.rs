//! What a call is made with, and what comes back.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use ringway_buf::{Instant, Slice};
use ringway_call::{Code, Metadata, Open, Status};

use crate::Codec;

/// How a call is made. `Default` is an ordinary call without a deadline.
#[derive(Clone, Debug)]
pub struct CallOptions<'a> {
    /// After this time the call ends with DEADLINE_EXCEEDED, here and at the server. `None`: never.
    pub timeout: Option<Duration>,
    /// A block made by [`MetadataBuf`](ringway_call::MetadataBuf).
    pub metadata: &'a [u8],
    /// 0 most urgent, 7 least. Default 4.
    pub priority: u8,
    /// While the server can't be reached: wait instead of failing with UNAVAILABLE.
    pub wait_for_ready: bool,
    /// Doing it twice does what doing it once does.
    pub idempotent: bool,
    /// Compress the request, if the server can unpack it.
    pub compress: bool,
}

impl Default for CallOptions<'_> {
    fn default() -> Self {
        Self {
            timeout: None,
            metadata: &[],
            priority: 4,
            wait_for_ready: false,
            idempotent: false,
            compress: false,
        }
    }
}

impl CallOptions<'_> {
    /// The call as the machine opens it.
    #[inline]
    pub(crate) fn open(&self, method: u32, now: Instant) -> Open<'_> {
        Open {
            method,
            deadline: self.timeout.map(|timeout| now + timeout),
            priority: self.priority,
            attempt: 0,
            idempotent: self.idempotent,
            one_way: false,
            compress: self.compress,
            metadata: self.metadata,
            end: true,
        }
    }

    /// An ordinary call that ends after `timeout`.
    #[must_use]
    pub fn timeout(timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout),
            ..Self::default()
        }
    }
}

/// The end of a call, undecoded.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// The answer's metadata, as a checked block.
    pub metadata: Box<[u8]>,
    /// The answer, if the call is unary and went well.
    pub message: Option<Slice>,
}

impl Answer {
    /// A call that this side ended.
    #[must_use]
    #[inline]
    pub fn of(status: Status) -> Self {
        Self {
            status,
            metadata: Box::default(),
            message: None,
        }
    }

    /// A call that went well, without metadata.
    #[inline]
    pub(crate) fn plain(message: Slice) -> Self {
        Self {
            message: Some(message),
            ..Self::of(Status::OK)
        }
    }

    /// The answer's metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::parse(&self.metadata).unwrap_or_default()
    }

    /// As a response of this codec and type.
    ///
    /// # Errors
    /// The call's status, or INTERNAL when the answer can't be decoded.
    #[inline]
    pub fn decode<C: Codec<T>, T: ?Sized>(self) -> Result<Response<C, T>, Status> {
        if !self.status.is_ok() {
            return Err(self.status);
        }
        let response = Response {
            message: self.message,
            metadata: self.metadata,
            codec: PhantomData,
        };
        Ok(response)
    }
}

/// A received answer in the memory it arrived in. Reading it copies nothing; while it lives, that memory counts
/// against the engine's budget.
pub struct Response<C, T: ?Sized> {
    message: Option<Slice>,
    metadata: Box<[u8]>,
    codec: PhantomData<fn() -> (C, *const T)>,
}

impl<C, T: ?Sized> fmt::Debug for Response<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} bytes)", self.bytes().len())
    }
}

impl<C, T: ?Sized> Response<C, T> {
    /// The bytes of the answer.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.message.as_ref().map_or(&[], Slice::bytes)
    }

    /// The answer's metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata<'_> {
        Metadata::parse(&self.metadata).unwrap_or_default()
    }

    /// The message as shared bytes.
    #[must_use]
    pub fn into_slice(self) -> Option<Slice> {
        self.message
    }
}

impl<C: Codec<T>, T: ?Sized> Response<C, T> {
    /// The answer, read in place.
    ///
    /// # Errors
    /// INTERNAL: the bytes are no such message.
    #[inline]
    pub fn view(&self) -> Result<C::View<'_>, Status> {
        C::decode(self.bytes()).map_err(undecodable)
    }

    /// The answer as a value of its own.
    ///
    /// # Errors
    /// INTERNAL: the bytes are no such message.
    pub fn get(&self) -> Result<T, Status>
    where
        T: Sized,
    {
        C::decode_owned(self.bytes()).map_err(undecodable)
    }
}

#[cold]
pub(crate) fn undecodable(error: crate::DecodeError) -> Status {
    let text = format!("the answer can't be decoded: {error}");
    Status::new(Code::Internal, &text)
}
