//! The way down: frames of messages, and what the machine itself has to send.
//!
//! Each thing that can be pending can be pending once, so there is no queue that a peer could fill: of several
//! pings that wait for an answer the latest is answered (`docs/wire/stream.md#keepalive`).

use super::handshake::mixed;
use super::{Offer, Role, Stream};
use crate::wire::control::Control;
use crate::wire::{CloseCode, HEADER_BYTES, HELLO_BYTES, Header, index_of};

/// Room in bytes for everything that can be pending in a [`Stream`] at once: hello, pong, ping, both
/// announcements and CLOSE.
pub const TRANSMIT_BYTES_MAX: usize = 144;

const _: () = assert!(TRANSMIT_BYTES_MAX == HELLO_BYTES + 5 * HEADER_BYTES);

/// Writes a frame around a body that is still to be written: the header, and zeros as padding.
///
/// Returns the room of the body, `length` bytes at offset 16; `None`, with nothing written, if `out` is
/// shorter than [`frame_bytes`](Header::frame_bytes).
pub fn frame<'a>(header: &Header, out: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let room = out.get_mut(..header.frame_bytes())?;
    if !header.write(room) {
        return None;
    }
    let (_, behind) = room.split_at_mut_checked(HEADER_BYTES)?;
    let (body, padding) = behind.split_at_mut_checked(index_of(header.length))?;
    padding.fill(0);
    Some(body)
}

/// What waits to be sent, in the order in which it will be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    /// Bytes may go to the peer: this is the client, or the peer's preface was good.
    greeted: bool,
    hello: bool,
    pong: bool,
    ping: bool,
    goaway: bool,
    final_goaway: bool,
    close: Option<CloseCode>,
    pong_token: u64,
    ping_token: u64,
}

impl Pending {
    pub(super) const fn client(seed: u64) -> Self {
        Self {
            greeted: true,
            hello: true,
            ..Self::server(seed)
        }
    }

    pub(super) const fn server(seed: u64) -> Self {
        Self {
            greeted: false,
            hello: false,
            pong: false,
            ping: false,
            goaway: false,
            final_goaway: false,
            close: None,
            pong_token: 0,
            ping_token: mixed(mixed(seed)),
        }
    }

    /// The peer's preface was good: a server may speak now, and says hello first.
    pub(super) const fn greet(&mut self) {
        if !self.greeted {
            self.greeted = true;
            self.hello = true;
        }
    }

    pub(super) const fn pong(&mut self, token: u64) {
        self.pong = true;
        self.pong_token = token;
    }

    pub(super) const fn ping(&mut self) {
        self.ping = true;
        self.ping_token = self.ping_token.wrapping_add(1);
    }

    pub(super) const fn goaway(&mut self) {
        self.goaway = true;
    }

    pub(super) const fn final_goaway(&mut self) {
        self.final_goaway = true;
    }

    /// Queues CLOSE behind hello and announcements; what nobody will answer is dropped.
    pub(super) const fn close(&mut self, code: CloseCode) {
        self.pong = false;
        self.ping = false;
        self.close = Some(code);
    }

    /// Drops everything, for ever unless something new is queued.
    pub(super) const fn clear(&mut self) {
        self.hello = false;
        self.pong = false;
        self.ping = false;
        self.goaway = false;
        self.final_goaway = false;
        self.close = None;
    }

    const fn any(&self) -> bool {
        let greeting = self.hello || self.pong || self.ping;
        self.greeted && (greeting || self.goaway || self.final_goaway || self.close.is_some())
    }

    /// Takes the next control frame, once the hello is out.
    fn next_control(&self) -> Option<Control> {
        if self.pong {
            return Some(Control::Pong {
                token: self.pong_token,
            });
        }
        if self.ping {
            return Some(Control::Ping {
                token: self.ping_token,
            });
        }
        if self.goaway {
            return Some(Control::Goaway { last: false });
        }
        if self.final_goaway {
            return Some(Control::Goaway { last: true });
        }
        self.close.map(Control::Close)
    }

    fn sent(&mut self, control: Control) {
        match control {
            Control::Pong { .. } => self.pong = false,
            Control::Ping { .. } => self.ping = false,
            Control::Goaway { last: false } => self.goaway = false,
            Control::Goaway { last: true } => self.final_goaway = false,
            Control::Close(_) => self.close = None,
            Control::Pad | Control::Ignorable => {}
        }
    }

    fn write_hello(&mut self, offer: &Offer, role: Role, out: &mut [u8]) -> usize {
        if !self.hello || !offer.hello(role).write(out) {
            return 0;
        }
        self.hello = false;
        HELLO_BYTES
    }
}

impl Stream {
    /// Whether [`poll_transmit`](Self::poll_transmit) has something to write.
    #[inline]
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.pending.any()
    }

    /// Writes the whole control frames that are pending and fit; returns the bytes written.
    ///
    /// [`TRANSMIT_BYTES_MAX`] is room enough for everything. The bytes go behind all messages that were handed
    /// to the driver before, so that GOAWAY and CLOSE stand where they were said.
    ///
    /// # Panics
    /// Never by what a peer or caller does: an assert guards the bound.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        if !self.wants_transmit() {
            return 0;
        }
        let mut written = self.pending.write_hello(&self.offer, self.role, out);
        if self.pending.hello {
            return 0;
        }
        while let Some(control) = self.pending.next_control() {
            let Some(room) = out.get_mut(written..) else {
                break;
            };
            if !control.header().write(room) {
                break;
            }
            self.pending.sent(control);
            written = written.saturating_add(HEADER_BYTES);
        }
        assert!(
            written <= TRANSMIT_BYTES_MAX,
            "each thing can be pending once"
        );
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_writes_header_and_padding_and_leaves_the_body() {
        let header = Header::message(3, 1, 2);
        let mut out = [0xAA; 40];
        let body = frame(&header, &mut out).unwrap();
        assert_eq!(body, [0xAA; 3]);
        body.copy_from_slice(b"abc");
        assert_eq!(Header::read(&out), Some(header));
        assert_eq!(out[16..19], *b"abc");
        assert_eq!(out[19..32], [0; 13]);
        assert_eq!(out[32..], [0xAA; 8]);
        assert!(frame(&header, &mut out[..31]).is_none());
    }
}
