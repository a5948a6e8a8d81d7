//! How connections come about: a request, an accept queue, an answer.
//!
//! ```text
//! connect --Syn--> listener's queue is free? --SynAnswer--> up
//!                  '-- full: again later, then ETIMEDOUT
//! ```
//! As on Linux the answer does not wait for `accept`: a client may be connected to a program that sleeps.

use std::time::Duration;

use ringway_buf::Id;
use ringway_driver::Address;

use crate::Fault;
use crate::clock::Event;
use crate::errno::{ECONNREFUSED, ETIMEDOUT};
use crate::net::Net;
use crate::pipe::Pipe;
use crate::rng::{Concern, Rng};
use crate::stream::{End, Link, Owner};

/// Time after which an unanswered request to connect is repeated: Linux' first retransmission.
const CONNECT_RETRY: Duration = Duration::from_secs(1);
/// Requests to connect that meet a full accept queue before the connect fails.
const CONNECT_ATTEMPTS_MAX: u8 = 7;
/// An id of nothing: no table ever gives out generation 0.
const NOBODY: Id = Id::from_parts(u32::MAX, 0);

impl Net {
    /// Starts a connection to `target`. `None` when the network is full.
    pub(crate) fn connect(
        &mut self,
        owner: Owner,
        target: &Address,
        local: Option<Address>,
    ) -> Option<Id> {
        let end = self.make_end(Some(owner), local, Some(target.clone()))?;
        let mut connect = Rng::split(self.seed, Concern::Connect, self.directions);
        let way = connect.duration(self.config.stream.connect_delay);
        let faults = &self.config.faults.stream;
        if connect.hits(faults.connect_silent) {
            self.counts.add(Fault::ConnectSilent);
        } else if connect.hits(faults.connect_refused) {
            self.counts.add(Fault::ConnectRefused);
            self.answer_in(way, end, ECONNREFUSED);
        } else {
            self.clock.plan(self.clock.now() + way, Event::Syn { end });
        }
        Some(end)
    }

    /// Makes a connection that is up and that nobody owns. `None` when the network is full.
    pub(crate) fn pair(&mut self) -> Option<[Id; 2]> {
        let near = self.make_end(None, None, None)?;
        let Some(far) = self.make_end(None, None, None) else {
            self.release(near, false);
            return None;
        };
        for (end, peer) in [(near, far), (far, near)] {
            if let Some(end) = self.ends.get_mut(end) {
                end.peer = peer;
                end.link = Link::Up;
            }
        }
        Some([near, far])
    }

    /// A request to connect arrived.
    pub(crate) fn on_syn(&mut self, client: Id) {
        let Some(target) = self.ends.get(client).and_then(|end| end.remote.clone()) else {
            return;
        };
        let listeners = self.names.answering(&target);
        let pick = usize::try_from(self.spread.below(listeners.len() as u64)).unwrap_or(0);
        let found = listeners.get(pick).copied();
        let Some(listener) = found.and_then(|id| self.listeners.get(id)) else {
            return self.answer(client, ECONNREFUSED);
        };
        if listener.backlog.len() >= listener.backlog_max {
            return self.retry(client);
        }
        let owner = listener.owner;
        let local = Some(target);
        let remote = self.ends.get(client).and_then(|end| end.local.clone());
        let Some(server) = self.make_end(None, local, remote) else {
            return self.retry(client);
        };
        if let Some(end) = self.ends.get_mut(server) {
            end.peer = client;
            end.link = Link::Up;
        }
        if let Some(end) = self.ends.get_mut(client) {
            end.peer = server;
        }
        if let Some(listener) = found.and_then(|id| self.listeners.get_mut(id)) {
            listener.backlog.push_back(server);
        }
        self.mark(owner);
        self.answer(client, 0);
    }

    /// The answer to a request to connect arrived.
    pub(crate) fn on_syn_answer(&mut self, client: Id, errno: i32) {
        let Some(end) = self.ends.get_mut(client) else {
            return;
        };
        if end.link == Link::Connecting {
            end.link = if errno == 0 {
                Link::Up
            } else {
                Link::Failed(errno)
            };
            self.mark_end(client);
        }
    }

    fn make_end(
        &mut self,
        owner: Option<Owner>,
        local: Option<Address>,
        remote: Option<Address>,
    ) -> Option<Id> {
        self.directions += 1;
        let storage = self.spare_rings.pop().unwrap_or_default();
        let inbound = Pipe::new(
            self.seed,
            self.directions,
            storage,
            &self.config.faults.stream,
        );
        let end = End {
            owner,
            link: Link::Connecting,
            peer: NOBODY,
            inbound,
            local,
            remote,
            attempts: 0,
            doomed: false,
        };
        self.ends.insert(end).ok()
    }

    fn retry(&mut self, client: Id) {
        let Some(end) = self.ends.get_mut(client) else {
            return;
        };
        end.attempts += 1;
        if end.attempts >= CONNECT_ATTEMPTS_MAX {
            return self.answer(client, ETIMEDOUT);
        }
        let wait = CONNECT_RETRY * (1 << (end.attempts - 1));
        self.clock
            .plan(self.clock.now() + wait, Event::Syn { end: client });
    }

    fn answer(&mut self, client: Id, errno: i32) {
        let way = self.config.stream.connect_delay;
        let Some(end) = self.ends.get_mut(client) else {
            return;
        };
        let way = end.inbound.duration(way);
        self.answer_in(way, client, errno);
    }

    fn answer_in(&mut self, way: Duration, client: Id, errno: i32) {
        let at = self.clock.now() + way;
        self.clock.plan(at, Event::SynAnswer { end: client, errno });
    }
}
