//! What a user implements.

use ringway_buf::RecvBuffer;
use ringway_driver::Address;
use ringway_proto::Header;

use crate::{Closed, ConnectionId, Context, ListenerId, Message, Peer, TimerId};

/// The user's side of an engine: callbacks on the engine's thread, run to completion.
///
/// All of them may write commands into the [`Context`]; none may block. A panic closes the connection that
/// was being served (with [`CloseReason::HandlerPanicked`](crate::CloseReason)); the engine lives on, and so
/// does the handler, in whatever state the panic left it.
pub trait Handler {
    /// A message arrived. It is borrowed: [`Message::retain`] keeps it longer.
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>);

    /// A connection finished its handshake and takes messages; also the first event of an accepted one.
    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        let _ = (cx, connection, peer);
    }

    /// After `Full`: there is room again.
    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let _ = (cx, connection);
    }

    /// The peer drains: it wants no new work. What is still sent in this turn, and while
    /// [`Context::hold`] is in force, is delivered.
    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        let _ = (cx, connection);
    }

    /// A connection is gone. Exactly once for every id that `connect`, `adopt` or `opened` gave out, and the
    /// last callback for it.
    fn closed(&mut self, cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        let _ = (cx, connection, closed);
    }

    /// A datagram was longer than the path carries (`bytes_max`) and was dropped.
    fn too_long(&mut self, cx: &mut Context<'_>, connection: ConnectionId, bytes_max: usize) {
        let _ = (cx, connection, bytes_max);
    }

    /// A message is larger than what has arrived of it: where shall its body go? For layers that put pieces of
    /// something larger together: the body is received at the end of the buffer's content, without a copy, and
    /// comes back by [`placed`](Self::placed). `None` (the default): into fresh memory, then
    /// [`message`](Self::message).
    ///
    /// The buffer needs room for the body and its padding to 16 bytes behind its content; one without is
    /// dropped. It is dropped as well if the connection closes before the message is complete.
    fn place(&mut self, connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        let _ = (connection, header);
        None
    }

    /// A message whose body was received into the buffer of [`place`](Self::place), behind what it held. Up to
    /// 15 bytes of padding follow the body.
    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        let _ = (cx, connection, header);
        drop(buffer);
    }

    /// Another thread called [`Handle::notify`](crate::Handle::notify), once or more often since the last time.
    fn notified(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// A timer of [`Context::set_timer`] is due.
    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        let _ = (cx, timer);
    }

    /// A listener accepted a connection from `peer`; the connection follows as `opened` after its handshake.
    /// Returning false drops it at once.
    fn accept(&mut self, listener: ListenerId, peer: Option<&Address>) -> bool {
        let _ = (listener, peer);
        true
    }
}

impl<H: Handler + ?Sized> Handler for &mut H {
    fn message(&mut self, cx: &mut Context<'_>, message: Message<'_>) {
        (**self).message(cx, message);
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, peer: &Peer) {
        (**self).opened(cx, connection, peer);
    }

    fn writable(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        (**self).writable(cx, connection);
    }

    fn draining(&mut self, cx: &mut Context<'_>, connection: ConnectionId) {
        (**self).draining(cx, connection);
    }

    fn closed(&mut self, cx: &mut Context<'_>, connection: ConnectionId, closed: &Closed) {
        (**self).closed(cx, connection, closed);
    }

    fn too_long(&mut self, cx: &mut Context<'_>, connection: ConnectionId, bytes_max: usize) {
        (**self).too_long(cx, connection, bytes_max);
    }

    fn place(&mut self, connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        (**self).place(connection, header)
    }

    fn placed(
        &mut self,
        cx: &mut Context<'_>,
        connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        (**self).placed(cx, connection, header, buffer);
    }

    fn notified(&mut self, cx: &mut Context<'_>) {
        (**self).notified(cx);
    }

    fn timer(&mut self, cx: &mut Context<'_>, timer: TimerId) {
        (**self).timer(cx, timer);
    }

    fn accept(&mut self, listener: ListenerId, peer: Option<&Address>) -> bool {
        (**self).accept(listener, peer)
    }
}

/// The handler of an engine whose connections all belong to links of other threads: it drops messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinksOnly;

impl Handler for LinksOnly {
    fn message(&mut self, _cx: &mut Context<'_>, _message: Message<'_>) {}
}
