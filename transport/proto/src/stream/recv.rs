//! The way up: what stands at the front of the received bytes.
//!
//! A length is judged by the header alone, before any of the body is asked for or buffered. Messages take the
//! short way (`handle_bytes`, inlined into the engine's loop); everything else goes through `handle_control`.

use ringway_buf::Instant;

use super::flood::{interval_ns_of_rate, nanos};
use super::handshake::{Greeted, HelloRead, read_hello, read_preface};
use super::state::{Half, Refusal, State};
use super::{Input, Stream, StreamConfig, Violation};
use crate::wire::control::{Control, ControlFault};
use crate::wire::{HEADER_BYTES, Header, index_of, padded};

impl Stream {
    /// Looks at the unit at the front of `bytes`: everything received and not yet consumed.
    ///
    /// # Errors
    /// [`Violation`] when the peer broke a rule. The machine has then closed itself: send what
    /// [`poll_transmit`](Self::poll_transmit) has, then close the socket.
    #[inline]
    pub fn handle_bytes(
        &mut self,
        config: &StreamConfig,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Input, Violation> {
        match Header::read(bytes) {
            Some(header)
                if self.ready
                    && header.is_message()
                    && header.length <= config.message_bytes_max =>
            {
                Ok(self.message(config, header, bytes.len(), now))
            }
            _ => self.handle_control(config, bytes, now),
        }
    }

    #[inline]
    fn message(
        &mut self,
        config: &StreamConfig,
        header: Header,
        available: usize,
        now: Instant,
    ) -> Input {
        let frame_bytes = header.frame_bytes();
        let complete = available >= frame_bytes;
        if !complete && frame_bytes <= index_of(config.large_bytes_min) {
            return Input::Need(frame_bytes);
        }
        self.times.on_message(now);
        self.messages = self.messages.saturating_add(1);
        if complete {
            Input::Message(header)
        } else {
            Input::Large(header)
        }
    }

    /// Everything that is not a message in its right place.
    #[cold]
    #[inline(never)]
    fn handle_control(
        &mut self,
        config: &StreamConfig,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Input, Violation> {
        let outcome = match self.state {
            _ if bytes.is_empty() => Ok(Input::Need(HEADER_BYTES)),
            State::Hello { .. } => self.on_greeting(bytes, now),
            State::Open { .. } if self.skip > 0 => Ok(self.on_skipped(bytes.len())),
            State::Open { .. } => self.on_frame(config, bytes, now),
            State::Closed => Ok(Input::Consumed(bytes.len())),
            State::PeerClosed { .. } | State::Ended => Err(Violation::AfterClose),
        };
        outcome.inspect_err(|violation| match violation.code() {
            Some(code) => self.close(code),
            None => {
                self.enter(self.state.close());
                self.pending.clear();
            }
        })
    }

    fn on_greeting(&mut self, bytes: &[u8], now: Instant) -> Result<Input, Violation> {
        let preface = match read_preface(bytes)? {
            Greeted::Need(need) => return Ok(Input::Need(need)),
            Greeted::Preface(preface) => preface,
        };
        // From here on the peer is no stranger: even a refusal is answered with our own hello.
        self.pending.greet();
        match read_hello(&self.offer, self.role, preface, bytes)? {
            HelloRead::Need(need) => Ok(Input::Need(need)),
            HelloRead::Agreed(peer, consumed) => {
                self.peer = peer;
                self.enter(
                    self.state
                        .on_hello()
                        .map_err(|refusal| refusal.of(preface.role))?,
                );
                self.times.on_open(now);
                self.events.opened = true;
                Ok(Input::Consumed(consumed))
            }
        }
    }

    fn on_skipped(&mut self, available: usize) -> Input {
        let skipped = self.skip.min(available);
        self.skip = self.skip.saturating_sub(skipped);
        self.enter(self.state);
        Input::Consumed(skipped)
    }

    fn on_frame(
        &mut self,
        config: &StreamConfig,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Input, Violation> {
        let Some(header) = Header::read(bytes) else {
            return Ok(Input::Need(HEADER_BYTES));
        };
        if header.length > config.message_bytes_max {
            let (length, max) = (header.length, config.message_bytes_max);
            return Err(Violation::MessageTooLong { length, max });
        }
        if header.is_message() {
            // The short way was closed, so the state does not receive; it says why.
            self.state
                .on_message()
                .map_err(|refusal| refusal.of(header.kind))?;
            return Ok(self.message(config, header, bytes.len(), now));
        }
        let control = Control::read(&header).map_err(|fault| fault.of(&header))?;
        self.charge(config, control, header.kind, now)?;
        self.on_control(control, header.kind)?;
        if matches!(control, Control::Pad | Control::Ignorable) {
            self.skip = padded(index_of(header.length));
            self.enter(self.state);
            let in_view = bytes.len().saturating_sub(HEADER_BYTES);
            return Ok(match self.on_skipped(in_view) {
                Input::Consumed(body) => Input::Consumed(body.saturating_add(HEADER_BYTES)),
                other => other,
            });
        }
        Ok(Input::Consumed(HEADER_BYTES))
    }

    /// Takes the token that a control frame costs. `docs/wire/stream.md#flood`
    fn charge(
        &mut self,
        config: &StreamConfig,
        control: Control,
        kind: u8,
        now: Instant,
    ) -> Result<(), Violation> {
        let granted = match control {
            Control::Ping { .. } => {
                let interval_ns = nanos(config.keepalive_interval_min);
                self.pings.take(interval_ns, config.ping_burst, now)
            }
            // It is the last frame; there can be no flood of it.
            Control::Close(_) => true,
            Control::Pad | Control::Ignorable | Control::Pong { .. } | Control::Goaway { .. } => {
                let interval_ns = interval_ns_of_rate(config.control_rate);
                self.controls
                    .earn(interval_ns, core::mem::take(&mut self.messages));
                self.controls.take(interval_ns, config.control_burst, now)
            }
        };
        if granted {
            Ok(())
        } else {
            Err(Violation::Flood { kind })
        }
    }

    fn on_control(&mut self, control: Control, kind: u8) -> Result<(), Violation> {
        match control {
            // Whatever is heard counts as an answer (`heard`), so a pong has nothing more to say.
            Control::Pad | Control::Ignorable | Control::Pong { .. } => {}
            Control::Ping { token } => self.pending.pong(token),
            Control::Goaway { last } => {
                let before = self.state;
                self.enter(before.on_goaway(last).map_err(|refusal| refusal.of(kind))?);
                self.events.draining |= before.remote() == Some(Half::Active);
                self.note_drained(before);
            }
            Control::Close(code) => {
                self.enter(
                    self.state
                        .on_close(code)
                        .map_err(|refusal| refusal.of(kind))?,
                );
                self.pending.clear();
                self.events.closed = true;
            }
        }
        Ok(())
    }
}

impl Refusal {
    /// The violation that something of this kind is. The two first can't come from the parser, which asks the
    /// state before it reads; they are typed all the same, so that no foreign byte meets an assert.
    fn of(self, kind: u8) -> Violation {
        match self {
            Self::AfterFinal => Violation::MessageAfterFinal { kind },
            Self::BeforeHello | Self::HelloTwice => Violation::UnknownFrame { kind },
            Self::AfterClose => Violation::AfterClose,
        }
    }
}

impl ControlFault {
    fn of(self, header: &Header) -> Violation {
        match self {
            Self::Length => Violation::ControlLength {
                kind: header.kind,
                length: header.length,
            },
            Self::Unknown => Violation::UnknownFrame { kind: header.kind },
        }
    }
}
