//! A connection that belongs to another thread: blocking and `async`, under any runtime or none.
//!
//! The engine keeps one end ([`LinkEnd`]), the owner the other ([`Link`]); between them are two bounded
//! queues. What arrives is handed over as a slice of the receive memory, without a copy. A full inbox pauses
//! receiving, so that a slow owner slows its peer and nobody else.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use ringway_buf::{Slice, mpsc, spsc};
use ringway_driver::Address;
use ringway_proto::CloseCode;
use ringway_proto::packet::Delivery;

use crate::hub::Hub;
use crate::remote::{Reply, Shared, Signal, block_on};
use crate::send::Label;
use crate::{Claim, CloseReason, Closed, ConnectionId, Full, Message, OpenError, Peer, SendError};

/// Messages that wait in a link's outbound queue before `send` has to wait.
const OUTBOUND_MAX: usize = 256;
/// Accepted links that wait for their acceptor before further ones are refused.
const ACCEPTED_MAX: usize = 256;

/// Why a link can't be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkError {
    /// The connection is closed, for this reason.
    Closed(Arc<Closed>),
    /// The address could not be used.
    Open(Arc<OpenError>),
    /// The engine has stopped.
    Stopped,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(closed) => closed.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Stopped => crate::Stopped.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

/// A message that arrived on a link. Its body stays in the receive memory it arrived in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The bytes.
    pub body: Slice,
    /// Kind of the message.
    pub kind: u8,
    /// Flags of the layer above.
    pub flags: u8,
    /// A number that the sender chose.
    pub tag: u16,
    /// Eight bytes that the sender chose.
    pub word: u64,
}

impl Received {
    pub(crate) fn new(message: &Message<'_>) -> Self {
        Self {
            body: message.retain(),
            kind: message.kind(),
            flags: message.flags(),
            tag: message.tag(),
            word: message.word(),
        }
    }
}

/// What both ends share.
#[derive(Debug)]
struct Pipe {
    /// The link is in the engine's list of links to look at.
    noticed: AtomicBool,
    /// The owner dropped its end.
    dropped: AtomicBool,
    /// The engine paused receiving because the inbox was full.
    paused: AtomicBool,
    readable: Signal,
    writable: Signal,
    closed: OnceLock<Arc<Closed>>,
}

/// Whether the inbox takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbox {
    Open,
    Full,
}

#[derive(Debug)]
struct Outgoing {
    body: Vec<u8>,
    tag: u16,
    word: u64,
    delivery: Delivery,
}

/// The engine's end.
#[derive(Debug)]
pub(crate) struct LinkEnd {
    pipe: Arc<Pipe>,
    inbox: spsc::Sender<Received>,
    outbound: mpsc::Receiver<Outgoing>,
    /// A message that the connection's queue did not take yet.
    waiting: Option<Outgoing>,
    /// Until the connection is open: its owner's end, and who waits for it.
    opening: Option<(Link, Opening)>,
}

#[derive(Debug)]
enum Opening {
    Connect(Reply<Result<Link, LinkError>>),
    Accept(AcceptEnd),
}

/// Where a listener's accepted links go.
#[derive(Clone, Debug)]
pub(crate) struct AcceptEnd {
    queue: mpsc::Sender<Link>,
    arrived: Arc<Arrived>,
}

/// Tells an acceptor that a link arrived, or that none will any more.
#[derive(Debug, Default)]
struct Arrived {
    signal: Signal,
    /// The listener is closed: by a drain, or with its engine.
    ended: AtomicBool,
}

/// A connection owned by the caller. `Send`; dropping it sends what is queued, then closes.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    connection: ConnectionId,
    pipe: Arc<Pipe>,
    inbox: spsc::Receiver<Received>,
    outbound: mpsc::Sender<Outgoing>,
    peer: Option<Peer>,
}

/// Makes both ends of a link.
fn pair(shared: &Arc<Shared>, connection: ConnectionId, inbox_max: usize) -> (LinkEnd, Link) {
    let pipe = Arc::new(Pipe {
        noticed: AtomicBool::new(false),
        dropped: AtomicBool::new(false),
        paused: AtomicBool::new(false),
        readable: Signal::default(),
        writable: Signal::default(),
        closed: OnceLock::new(),
    });
    let (inbox_in, inbox_out) = spsc::channel(inbox_max);
    let (outbound_in, outbound_out) = mpsc::channel(OUTBOUND_MAX);
    let end = LinkEnd {
        pipe: Arc::clone(&pipe),
        inbox: inbox_in,
        outbound: outbound_out,
        waiting: None,
        opening: None,
    };
    let link = Link {
        shared: Arc::clone(shared),
        connection,
        pipe,
        inbox: inbox_out,
        outbound: outbound_in,
        peer: None,
    };
    (end, link)
}

impl LinkEnd {
    pub(crate) fn connecting(
        shared: &Arc<Shared>,
        connection: ConnectionId,
        inbox_max: usize,
        reply: Reply<Result<Link, LinkError>>,
    ) -> Self {
        let (mut end, link) = pair(shared, connection, inbox_max);
        end.opening = Some((link, Opening::Connect(reply)));
        end
    }

    pub(crate) fn accepting(
        shared: &Arc<Shared>,
        connection: ConnectionId,
        inbox_max: usize,
        accept: AcceptEnd,
    ) -> Self {
        let (mut end, link) = pair(shared, connection, inbox_max);
        end.opening = Some((link, Opening::Accept(accept)));
        end
    }

    /// The connection is open: its owner gets the other end. A full accept queue drops it, which closes.
    pub(crate) fn opened(&mut self, peer: Peer) {
        let Some((mut link, opening)) = self.opening.take() else {
            return;
        };
        link.peer = Some(peer);
        match opening {
            Opening::Connect(reply) => reply.answer(Ok(link)),
            Opening::Accept(accept) => {
                if accept.queue.push(link).is_ok() {
                    accept.arrived.signal.wake();
                }
            }
        }
    }

    /// Whether messages of the owner wait for the connection's queue.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.waiting.is_some() || !self.outbound.is_empty()
    }

    /// Puts a message into the inbox. It always has room: it was paused before it was full.
    pub(crate) fn deliver(&mut self, received: Received) -> Inbox {
        let lost = self.inbox.push(received).is_err();
        debug_assert!(
            !lost || self.inbox.is_closed(),
            "the inbox was paused before it was full"
        );
        self.pipe.readable.wake();
        if self.inbox.len() == self.inbox.capacity() {
            // SeqCst pairs with `Link::resume`: either it sees the flag, or we see the room it made.
            self.pipe.paused.store(true, Ordering::SeqCst);
            if self.inbox.len() == self.inbox.capacity() {
                return Inbox::Full;
            }
            self.pipe.paused.store(false, Ordering::SeqCst);
        }
        Inbox::Open
    }

    /// The connection is gone: the owner learns why, after it read what is left.
    pub(crate) fn close(self, closed: Closed) {
        let closed = Arc::new(closed);
        let first = self.pipe.closed.set(Arc::clone(&closed)).is_ok();
        debug_assert!(first, "a connection closes once");
        if let Some((_, Opening::Connect(reply))) = self.opening {
            reply.answer(Err(LinkError::Closed(closed)));
        }
        self.pipe.readable.wake();
        self.pipe.writable.wake();
    }
}

impl Hub {
    /// A link asked for attention: its inbox has room, it has something to send, or it was dropped.
    pub(crate) fn attend_link(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            return;
        };
        let Some(link) = &connection.link else { return };
        // SeqCst pairs with `Link::notice`: what was pushed before it is seen below.
        link.pipe.noticed.store(false, Ordering::SeqCst);
        let resumed = !link.pipe.paused.load(Ordering::SeqCst);
        let dropped = link.pipe.dropped.load(Ordering::SeqCst);
        if connection.pauses.link && resumed {
            connection.pauses.link = false;
            self.settle_reading(id, true);
        }
        let drained = self.pump_link(id);
        if dropped && drained {
            let code = CloseCode::Normal;
            self.close(id, Some(code), CloseReason::Local(code));
        }
    }

    /// Moves messages from a link into its connection's queue. Returns whether none is left.
    pub(crate) fn pump_link(&mut self, id: ConnectionId) -> bool {
        loop {
            let Some(connection) = self.connections.get_mut(id.0) else {
                return true;
            };
            let Some(link) = &mut connection.link else {
                return true;
            };
            let Some(outgoing) = link.waiting.take().or_else(|| link.outbound.pop()) else {
                let dropped = link.pipe.dropped.load(Ordering::SeqCst);
                link.pipe.writable.wake();
                if dropped && connection.is_live() {
                    let code = CloseCode::Normal;
                    self.close(id, Some(code), CloseReason::Local(code));
                }
                return true;
            };
            let label = Label {
                tag: outgoing.tag,
                word: outgoing.word,
                delivery: outgoing.delivery,
                ..Label::default()
            };
            let claim = Claim::make(self, id, None, outgoing.body.len(), label);
            let sent = claim.map(|mut claim| {
                ringway_buf::copy_counted(&mut claim, &outgoing.body);
                claim.commit();
            });
            match sent {
                Ok(()) => {}
                Err(SendError::Full | SendError::NotOpen) => {
                    if let Some(connection) = self.connections.get_mut(id.0)
                        && let Some(link) = &mut connection.link
                    {
                        link.waiting = Some(outgoing);
                    }
                    return false;
                }
                // The length was checked by the link, so the connection is closing; `unsent` tells.
                Err(_) => return true,
            }
        }
    }
}

impl Link {
    /// What is known about the other side.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Its id in the engine that carries it.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Why the connection is gone; `None` while it lives.
    #[must_use]
    pub fn closed(&self) -> Option<&Closed> {
        self.pipe.closed.get().map(|closed| &**closed)
    }

    /// Queues a message without waiting.
    ///
    /// # Errors
    /// Hands the message back: the queue is full, the message too long, or the connection closed.
    pub fn try_send(&self, body: Vec<u8>) -> Result<(), Full<Vec<u8>>> {
        self.try_send_labelled(body, 0, 0)
    }

    /// Like [`try_send`](Self::try_send), with a tag and eight bytes for the layer above.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_labelled(
        &self,
        body: Vec<u8>,
        tag: u16,
        word: u64,
    ) -> Result<(), Full<Vec<u8>>> {
        self.try_send_with(body, tag, word, Delivery::Ordered)
    }

    /// Like [`try_send_labelled`](Self::try_send_labelled); `delivery` says how the message travels, as on a
    /// [claim](Claim::delivery).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_with(
        &self,
        body: Vec<u8>,
        tag: u16,
        word: u64,
        delivery: Delivery,
    ) -> Result<(), Full<Vec<u8>>> {
        let bytes_max = self
            .peer
            .as_ref()
            .map_or(usize::MAX, |peer| peer.message_bytes_max as usize);
        let bytes = body.len();
        if bytes > bytes_max {
            return Err(Full {
                message: body,
                error: SendError::TooLong { bytes, bytes_max },
            });
        }
        if self.closed().is_some() || self.shared.is_stopped() {
            return Err(Full {
                message: body,
                error: SendError::Closed,
            });
        }
        self.outbound
            .push(Outgoing {
                body,
                tag,
                word,
                delivery,
            })
            .map_err(|full| Full {
                message: full.0.body,
                error: SendError::Full,
            })?;
        self.notice();
        Ok(())
    }

    /// Queues a message, waiting for room. One task at a time may wait.
    ///
    /// # Errors
    /// Hands the message back: too long, or the connection closed.
    pub async fn send(&self, body: Vec<u8>) -> Result<(), Full<Vec<u8>>> {
        let mut body = Some(body);
        poll_fn(|cx| {
            let mut again = true;
            loop {
                let Some(message) = body.take() else {
                    return Poll::Ready(Ok(()));
                };
                match self.try_send(message) {
                    Err(Full {
                        message,
                        error: SendError::Full,
                    }) => {
                        body = Some(message);
                        if !again {
                            return Poll::Pending;
                        }
                        self.pipe.writable.register(cx.waker());
                        again = false;
                    }
                    outcome => return Poll::Ready(outcome),
                }
            }
        })
        .await
    }

    /// Blocking face of [`send`](Self::send).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_wait(&self, body: Vec<u8>) -> Result<(), Full<Vec<u8>>> {
        block_on(self.send(body))
    }

    /// Takes the next message, if one is there.
    pub fn try_recv(&mut self) -> Option<Received> {
        let received = self.inbox.pop()?;
        self.resume();
        Some(received)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// The connection is closed and everything that arrived was taken.
    pub async fn recv(&mut self) -> Result<Received, LinkError> {
        poll_fn(|cx| {
            for again in [true, false] {
                // Read before the inbox: what arrived before the end must not be missed.
                let closed = self.pipe.closed.get().cloned();
                if let Some(received) = self.try_recv() {
                    return Poll::Ready(Ok(received));
                }
                if let Some(closed) = closed {
                    return Poll::Ready(Err(LinkError::Closed(closed)));
                }
                if self.shared.is_stopped() {
                    return Poll::Ready(Err(LinkError::Stopped));
                }
                if again {
                    self.pipe.readable.register(cx.waker());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Blocking face of [`recv`](Self::recv).
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_wait(&mut self) -> Result<Received, LinkError> {
        block_on(self.recv())
    }

    /// After a message was taken out: lets the engine receive again once half of the inbox is free.
    fn resume(&self) {
        if self.inbox.len() <= self.inbox.capacity() / 2
            && self.pipe.paused.swap(false, Ordering::SeqCst)
        {
            self.notice();
        }
    }

    fn notice(&self) {
        // SeqCst pairs with `attend_link`: a look that follows sees what was pushed before.
        if !self.pipe.noticed.swap(true, Ordering::SeqCst) {
            self.shared.notify(self.connection);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.pipe.dropped.store(true, Ordering::SeqCst);
        self.notice();
    }
}

/// Accepted connections of one listener, as links. Dropping it closes the listener.
#[derive(Debug)]
pub struct Acceptor {
    shared: Arc<Shared>,
    listener: crate::ListenerId,
    address: Option<Address>,
    queue: mpsc::Receiver<Link>,
    arrived: Arc<Arrived>,
}

impl Acceptor {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        listener: crate::ListenerId,
        address: Option<Address>,
    ) -> (Self, AcceptEnd) {
        let (queue_in, queue_out) = mpsc::channel(ACCEPTED_MAX);
        let arrived = Arc::new(Arrived::default());
        let end = AcceptEnd {
            queue: queue_in,
            arrived: Arc::clone(&arrived),
        };
        let shared = Arc::clone(shared);
        (
            Self {
                shared,
                listener,
                address,
                queue: queue_out,
                arrived,
            },
            end,
        )
    }

    /// The address it listens on, with the port that the kernel chose.
    #[must_use]
    pub fn local_address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// The engine drains or has stopped, and every link that arrived was taken.
    pub async fn accept(&mut self) -> Result<Link, LinkError> {
        poll_fn(|cx| {
            for again in [true, false] {
                // Acquire pairs with the Release in `AcceptEnd::stop`. Read before the queue: what arrived
                // before the end must not be missed.
                let ended = self.arrived.ended.load(Ordering::Acquire) || self.shared.is_stopped();
                if let Some(link) = self.queue.pop() {
                    return Poll::Ready(Ok(link));
                }
                if ended {
                    return Poll::Ready(Err(LinkError::Stopped));
                }
                if again {
                    self.arrived.signal.register(cx.waker());
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Blocking face of [`accept`](Self::accept).
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_wait(&mut self) -> Result<Link, LinkError> {
        block_on(self.accept())
    }
}

impl AcceptEnd {
    /// The listener is closed: whoever waits for a connection is told.
    pub(crate) fn stop(&self) {
        self.arrived.ended.store(true, Ordering::Release);
        self.arrived.signal.wake();
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        let listener = self.listener;
        let command = crate::handle::Command::Run(Box::new(move |cx| cx.hub.unlisten(listener)));
        // A full queue or a stopped engine: the listener closes with the engine.
        drop(self.shared.post(command));
    }
}
