//! Answers to [`OwedCall`]s: between turns, with engine and node at hand, straight into the connection's batch.

use std::rc::Rc;

use ringway_call::{Body, Code, Status};
use ringway_engine::Context;

use crate::Node;
use crate::node::dispatch::Dispatch;
use crate::outlet::Wire;
use crate::owed::{Finish, OwedCall};

impl Node {
    /// Answers a call with its one message, written in place, and metadata as made by
    /// [`MetadataBuf`](ringway_call::MetadataBuf). Nothing happens if it is over already. An answer that is too long
    /// for the client, or finds no memory, ends the call with RESOURCE_EXHAUSTED there.
    #[inline]
    pub fn answer<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        mut owed: OwedCall,
        body: B,
        metadata: &[u8],
    ) {
        let now = cx.now();
        if let Some(dispatch) = self.dispatch_of(&owed) {
            owed.answered = true;
            let mut wire = Wire::Engine(cx.reborrow());
            dispatch.reply(&mut wire, owed.call, body, metadata, now);
        }
    }

    /// Ends a call without a message: a stream well, behind what it sent before, or any call with an error, which drops
    /// what its stream has not sent. `metadata` as in [`answer`](Self::answer).
    pub fn end(
        &mut self,
        cx: &mut Context<'_>,
        mut owed: OwedCall,
        status: Status,
        metadata: &[u8],
    ) {
        let now = cx.now();
        let Some(dispatch) = self.dispatch_of(&owed) else {
            return;
        };
        owed.answered = true;
        let mut wire = Wire::Engine(cx.reborrow());
        if status.is_ok() {
            let metadata = metadata.into();
            dispatch.finish(&mut wire, owed.call, Finish { status, metadata }, now);
        } else {
            dispatch.fail_with(&mut wire, owed.call, &status, metadata, now);
        }
    }

    /// Sends one message of an answering stream; false if there is no room now, and
    /// [`Watch::writable`](crate::Watch::writable) follows. At most 64 KiB (and one message) wait for the client's
    /// credit.
    ///
    /// # Errors
    /// CANCELLED when the call is over, RESOURCE_EXHAUSTED when memory lacks. A message that is too long for the
    /// client ends the call with RESOURCE_EXHAUSTED.
    pub fn send<B: Body>(
        &mut self,
        cx: &mut Context<'_>,
        owed: &OwedCall,
        body: B,
    ) -> Result<bool, Status> {
        let now = cx.now();
        let gone = || Status::of(Code::Cancelled, "the call is over");
        let dispatch = self.dispatch_of(owed).ok_or_else(gone)?;
        let streams = owed.streams.as_ref().ok_or_else(gone)?;
        if owed.is_cancelled() {
            return Err(gone());
        }
        if streams.is_full() {
            streams.wants_room();
            return Ok(false);
        }
        let mut wire = Wire::Engine(cx.reborrow());
        dispatch.send_or_keep(&mut wire, owed.call, streams, body, now)?;
        Ok(true)
    }

    /// Gives credit for a message of the client's stream back, so that the client may send more.
    pub fn grant(&mut self, cx: &mut Context<'_>, owed: &OwedCall, cost: u32) {
        if let Some(dispatch) = self.dispatch_of(owed) {
            dispatch.grant(&mut Wire::Engine(cx.reborrow()), owed.call, cost);
        }
    }

    /// The services that the call came to.
    #[inline]
    fn dispatch_of(&mut self, owed: &OwedCall) -> Option<&mut Dispatch> {
        let dispatch = self.dispatch.as_mut()?;
        Rc::ptr_eq(&dispatch.runtime.local, &owed.local).then_some(dispatch)
    }
}
