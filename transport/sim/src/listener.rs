//! Listeners as the network sees them: a name and a queue of connections that wait to be accepted.

use std::collections::VecDeque;

use ringway_buf::Id;
use ringway_driver::{Address, ListenOptions};

use crate::Fault;
use crate::errno::{EADDRINUSE, ECONNABORTED, EMFILE, ENFILE, ENOBUFS};
use crate::net::Net;
use crate::stream::Owner;

/// A listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) owner: Owner,
    pub(crate) address: Address,
    pub(crate) reuse_port: bool,
    pub(crate) backlog_max: usize,
    pub(crate) backlog: VecDeque<Id>,
}

/// What came of an attempt to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// A connection that nobody owns yet.
    Taken(Id),
    /// Nobody waits.
    Empty,
    /// The system could not.
    Failed(i32),
}

impl Net {
    /// Opens a listener; an error number when its name is taken or the network is full.
    pub(crate) fn listen(
        &mut self,
        owner: Owner,
        address: &Address,
        options: &ListenOptions,
    ) -> Result<(Id, Address), i32> {
        let address = self.names.with_port(address).ok_or(EADDRINUSE)?;
        let reuse_port = options.reuse_port && matches!(address, Address::Tcp(_));
        let shared = self.names.exactly(&address).iter().all(|id| {
            reuse_port
                && self
                    .listeners
                    .get(*id)
                    .is_some_and(|listener| listener.reuse_port)
        });
        if !shared {
            return Err(EADDRINUSE);
        }
        let listener = Listener {
            owner,
            address: address.clone(),
            reuse_port,
            backlog_max: options.backlog.max(1) as usize,
            backlog: VecDeque::new(),
        };
        let id = self.listeners.insert(listener).map_err(|_full| ENFILE)?;
        self.names.insert(&address, id);
        Ok((id, address))
    }

    /// Takes the connection that waits longest.
    pub(crate) fn accept(&mut self, listener: Id, node: u32) -> Accept {
        let Some(listener) = self.listeners.get_mut(listener) else {
            return Accept::Empty;
        };
        if listener.backlog.is_empty() {
            return Accept::Empty;
        }
        let accept = &mut self.nodes[node as usize].accept;
        if accept.hits(self.config.faults.driver.accept) {
            self.counts.add(Fault::Accept);
            let errno = match accept.below(4) {
                0 => EMFILE,
                1 => ENFILE,
                2 => ENOBUFS,
                _ => ECONNABORTED,
            };
            if errno == ECONNABORTED
                && let Some(aborted) = listener.backlog.pop_front()
            {
                self.release(aborted, true);
            }
            return Accept::Failed(errno);
        }
        listener
            .backlog
            .pop_front()
            .map_or(Accept::Empty, Accept::Taken)
    }

    /// Closes a listener; who waits in its queue is reset.
    pub(crate) fn unlisten(&mut self, listener: Id) {
        let Some(gone) = self.listeners.remove(listener) else {
            return;
        };
        self.names.remove(&gone.address, listener);
        for waiting in gone.backlog {
            self.release(waiting, true);
        }
    }
}
