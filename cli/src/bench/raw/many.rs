//! The loops on many connections: plain, level-triggered epoll, one receive and one send per ready socket.
//!
//! All connections share one receive buffer, so that it stays in the cache; only what is left of an unfinished
//! message is kept aside, connection by connection.

use std::time::Duration;

use super::super::STALL;
use super::super::load::Calls;
use super::failed;
use super::frame::{Inbox, Outbox};
use super::link::Link;
use super::patience::Patience;
use super::sys::{self, Epoll};
use crate::failure::Failure;

/// Many links, one thread.
#[derive(Debug)]
pub(crate) struct Many<L> {
    epoll: Epoll,
    links: Vec<L>,
    inbox: Inbox,
    out: Outbox,
    blocking: bool,
    /// Bytes of a request ahead of its body.
    lead: usize,
}

impl<L: Link> Many<L> {
    pub(crate) fn new(
        inbox: Inbox,
        out: Outbox,
        blocking: bool,
        lead: usize,
    ) -> Result<Self, Failure> {
        let epoll = Epoll::new().map_err(failed("make an epoll set"))?;
        Ok(Self {
            epoll,
            links: Vec::new(),
            inbox,
            out,
            blocking,
            lead,
        })
    }

    /// Adds a non-blocking link.
    pub(crate) fn add(&mut self, link: L) -> Result<(), Failure> {
        let token = u64::try_from(self.links.len()).unwrap_or(u64::MAX);
        self.epoll
            .add(link.fd(), token)
            .map_err(failed("watch a socket"))?;
        self.links.push(link);
        Ok(())
    }

    /// Server: sends every message back, `target` of them.
    pub(crate) fn echo(&mut self, target: u64) -> Result<(), Failure> {
        let mut patience = Patience::new("the raw server", self.blocking);
        let (mut echoed, lead) = (0, self.lead);
        while echoed < target {
            self.ready(&mut patience, |body, out| {
                out.push(body.get(lead..).unwrap_or_default());
                echoed += 1;
            })?;
        }
        Ok(())
    }

    /// Client: one call in flight on each connection.
    pub(crate) fn call(&mut self, calls: &mut Calls, target: u64) -> Result<(), Failure> {
        let mut patience = Patience::new("the raw client", self.blocking);
        let lead = self.lead;
        calls.start(target);
        for link in &mut self.links {
            if calls.may_issue() {
                calls.issue(self.out.claim_behind(lead, calls.size()));
                push(link, &mut self.out)?;
            }
        }
        while !calls.is_done() {
            self.ready(&mut patience, |body, out| {
                if calls.answer(body) && calls.may_issue() {
                    calls.issue(out.claim_behind(lead, calls.size()));
                }
            })?;
        }
        Ok(())
    }

    /// Server: waits until `until` without anything to do.
    pub(crate) fn idle(&mut self, until: std::time::Instant) -> Result<(), Failure> {
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let limit = if self.blocking { left } else { Duration::ZERO };
            self.epoll.wait(limit).map_err(failed("wait for events"))?;
        }
    }

    /// One `epoll_wait` and its events.
    #[inline]
    fn ready(
        &mut self,
        patience: &mut Patience,
        mut act: impl FnMut(&[u8], &mut Outbox),
    ) -> Result<(), Failure> {
        let limit = if self.blocking { STALL } else { Duration::ZERO };
        let found = self.epoll.wait(limit).map_err(failed("wait for events"))?;
        if found == 0 {
            return patience.miss();
        }
        patience.hit();
        for event in 0..found {
            let token = self
                .epoll
                .token(event)
                .and_then(|token| usize::try_from(token).ok());
            let Some(link) = token.and_then(|token| self.links.get_mut(token)) else {
                continue;
            };
            let (inbox, out) = (&mut self.inbox, &mut self.out);
            link.bring_back(inbox);
            if link.pull(inbox).map_err(failed("receive"))? {
                while let Some(body) = link.next(inbox).map_err(failed("parse"))? {
                    act(body, out);
                }
                push(link, out)?;
            }
            link.put_aside(inbox);
        }
        Ok(())
    }
}

/// Writes all that is gathered; where the socket is full, waits for that one socket.
fn push<L: Link>(link: &mut L, out: &mut Outbox) -> Result<(), Failure> {
    while !link.push(out).map_err(failed("send"))? {
        if !sys::await_writable(link.fd(), STALL).map_err(failed("wait for room"))? {
            return Err(Failure::Stalled {
                what: "a raw sender",
            });
        }
    }
    Ok(())
}
