//! The loops on one connection. With a non-blocking socket they spin, with a blocking one they sleep in the
//! kernel; the code is the same.

use super::super::load::{Calls, Flow, Tally};
use super::failed;
use super::frame::{Inbox, Outbox};
use super::link::Link;
use super::patience::Patience;
use crate::failure::Failure;

/// A link with buffers of its own.
#[derive(Debug)]
pub(crate) struct Single<L> {
    link: L,
    inbox: Inbox,
    out: Outbox,
    blocking: bool,
    /// Bytes of a request ahead of its body.
    lead: usize,
}

impl<L: Link> Single<L> {
    pub(crate) fn new(link: L, inbox: Inbox, out: Outbox, blocking: bool, lead: usize) -> Self {
        Self {
            link,
            inbox,
            out,
            blocking,
            lead,
        }
    }

    /// Server: sends every message back, `target` of them.
    pub(crate) fn echo(&mut self, target: u64) -> Result<(), Failure> {
        let Self {
            link,
            inbox,
            out,
            blocking,
            lead,
        } = self;
        let mut patience = Patience::new("the raw server", *blocking);
        let mut echoed = 0;
        while echoed < target || !out.rest().is_empty() {
            if echoed == target {
                patience.miss()?;
            } else if link.pull(inbox).map_err(failed("raw server, receive"))? {
                patience.hit();
                while let Some(body) = link.next(inbox).map_err(failed("raw server, parse"))? {
                    out.push(body.get(*lead..).unwrap_or_default());
                    echoed += 1;
                }
            } else {
                patience.miss()?;
            }
            link.push(out).map_err(failed("raw server, send"))?;
        }
        Ok(())
    }

    /// Client: the closed loop of calls; all that may leave at one moment leave in one write.
    pub(crate) fn call(&mut self, calls: &mut Calls, target: u64) -> Result<(), Failure> {
        let Self {
            link,
            inbox,
            out,
            blocking,
            lead,
        } = self;
        let mut patience = Patience::new("the raw client", *blocking);
        calls.start(target);
        while !calls.is_done() {
            while calls.may_issue() {
                calls.issue(out.claim_behind(*lead, calls.size()));
            }
            link.push(out).map_err(failed("raw client, send"))?;
            if !link.pull(inbox).map_err(failed("raw client, receive"))? {
                patience.miss()?;
                continue;
            }
            patience.hit();
            while let Some(body) = link.next(inbox).map_err(failed("raw client, parse"))? {
                // False: a late datagram of an earlier block, which is no answer and no fault.
                let _known: bool = calls.answer(body);
            }
        }
        Ok(())
    }

    /// Client: one way, as many messages in each write as fit a batch.
    pub(crate) fn flow(&mut self, flow: &mut Flow, target: u64) -> Result<(), Failure> {
        self.flow_with(flow, target, |out, flow| {
            while flow.may_issue() > 0 && !out.is_full(flow.body().len()) {
                out.push(flow.body());
                flow.issued();
            }
        })
    }

    /// Client: one way, the same large message again and again from the same memory.
    pub(crate) fn flow_large(&mut self, flow: &mut Flow, target: u64) -> Result<(), Failure> {
        self.out.push(flow.body());
        let frame = self.out.rest().len();
        self.out.left(frame);
        self.flow_with(flow, target, |out, flow| {
            if flow.may_issue() > 0 && out.rest().is_empty() {
                out.again(frame);
                flow.issued();
            }
        })
    }

    fn flow_with(
        &mut self,
        flow: &mut Flow,
        target: u64,
        mut gather: impl FnMut(&mut Outbox, &mut Flow),
    ) -> Result<(), Failure> {
        let Self {
            link,
            inbox,
            out,
            blocking,
            ..
        } = self;
        let mut patience = Patience::new("the raw sender", *blocking);
        flow.start(target);
        while !flow.is_done() {
            gather(out, flow);
            if !link.push(out).map_err(failed("raw sender, send"))? {
                patience.miss()?;
                continue;
            }
            if flow.may_issue() > 0 {
                patience.hit();
                continue;
            }
            if !link.pull(inbox).map_err(failed("raw sender, receive"))? {
                patience.miss()?;
                continue;
            }
            patience.hit();
            while let Some(body) = link.next(inbox).map_err(failed("raw sender, parse"))? {
                flow.acknowledge(body)?;
            }
        }
        Ok(())
    }

    /// Server: counts what comes, and acknowledges when it is due.
    pub(crate) fn sink(&mut self, tally: &mut Tally, target: u64) -> Result<(), Failure> {
        let Self {
            link,
            inbox,
            out,
            blocking,
            ..
        } = self;
        let mut patience = Patience::new("the raw receiver", *blocking);
        tally.start(target);
        while !tally.is_done() || !out.rest().is_empty() {
            if tally.is_done() {
                patience.miss()?;
            } else if link.pull(inbox).map_err(failed("raw receiver, receive"))? {
                patience.hit();
                while let Some(body) = link.next(inbox).map_err(failed("raw receiver, parse"))? {
                    if let Some(acknowledgement) = tally.count(body) {
                        out.push(&acknowledgement);
                    }
                }
            } else {
                patience.miss()?;
            }
            link.push(out).map_err(failed("raw receiver, send"))?;
        }
        Ok(())
    }
}
