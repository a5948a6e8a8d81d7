//! A streaming call on the caller's own engine, with types.

use core::fmt;
use core::marker::PhantomData;

use ringway_call::{Code, Status};

use super::answer::{Answer, CallOptions, Response};
use super::inline::InlineChannel;
use super::session::CallKey;
use crate::codec::Codec;

/// A streaming call of an [`InlineChannel`]: both of its ends. Sending and receiving turn the engine while they
/// wait. Dropping it before its end gives the call up.
///
/// In a bidirectional call a client that only sends stops both sides once all credit is used: receive in between.
pub struct InlineStream<'a, C, Q: ?Sized, R: ?Sized> {
    channel: &'a mut InlineChannel,
    key: CallKey,
    /// The call's end, once it is known.
    answer: Option<Answer>,
    finished: bool,
    types: PhantomData<fn(C, *const Q) -> *const R>,
}

impl<C, Q: ?Sized, R: ?Sized> fmt::Debug for InlineStream<'_, C, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineStream")
            .field("key", &self.key)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

impl<'a, C, Q, R> InlineStream<'a, C, Q, R>
where
    C: Codec<Q> + Codec<R>,
    Q: ?Sized,
    R: ?Sized,
{
    /// Opens a call. With a request the client says no more: the server streams. Without one it streams itself.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn open(
        channel: &'a mut InlineChannel,
        method: u32,
        request: Option<&Q>,
        options: &CallOptions<'_>,
    ) -> Result<Self, Status> {
        let end = request.is_some();
        let key = channel.open::<C, Q>(method, request, end, options)?;
        Ok(Self {
            channel,
            key,
            answer: None,
            finished: end,
            types: PhantomData,
        })
    }

    /// Sends a message; turns the engine while there is no room.
    ///
    /// # Errors
    /// CANCELLED: the call or the client's stream is over ([`next`](Self::next) tells how); RESOURCE_EXHAUSTED: the
    /// message is too long.
    pub fn send(&mut self, message: &Q) -> Result<(), Status> {
        if self.finished {
            return Err(Status::of(Code::Cancelled, "the stream is over"));
        }
        self.channel.send::<C, Q>(self.key, message, false)
    }

    /// Says that no more follows.
    pub fn finish(&mut self) {
        if !core::mem::replace(&mut self.finished, true) {
            self.channel.end(self.key);
        }
    }

    /// Waits for the next message, which is read in the memory it arrived in; `None` after the last one of a call
    /// that went well.
    ///
    /// # Errors
    /// The status that the call ended with.
    #[expect(
        clippy::should_implement_trait,
        reason = "it borrows the channel and can fail"
    )]
    pub fn next(&mut self) -> Result<Option<Response<C, R>>, Status> {
        if self.answer.is_none() {
            match self.channel.receive(self.key) {
                Ok(message) => {
                    let mut answer = Answer::of(Status::OK);
                    answer.message = Some(message);
                    return answer.decode().map(Some);
                }
                Err(answer) => self.answer = Some(answer),
            }
        }
        match &self.answer {
            Some(answer) if !answer.status.is_ok() => Err(answer.status.clone()),
            _ => Ok(None),
        }
    }

    /// Ends the client's stream and waits for the one answer to it.
    ///
    /// # Errors
    /// The status that the call ended with.
    pub fn answer(mut self) -> Result<Response<C, R>, Status> {
        self.finish();
        while self.answer.is_none() {
            if let Err(answer) = self.channel.receive(self.key) {
                self.answer = Some(answer);
            }
        }
        let answer = self.answer.clone();
        answer.unwrap_or_else(|| Answer::of(super::gone())).decode()
    }
}

impl<C, Q: ?Sized, R: ?Sized> Drop for InlineStream<'_, C, Q, R> {
    fn drop(&mut self) {
        if self.answer.is_none() {
            self.channel.cancel(self.key);
        }
    }
}
