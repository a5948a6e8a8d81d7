//! Arbitrary bytes in arbitrary chunks into one machine, with everything that its owner may do in between.
//!
//! Checked: no panic; progress (consumes, or asks for more than it was shown, never more than the bound);
//! bounded output; nothing to a stranger; CLOSE is the last frame; after `handle_timeout` the next deadline
//! lies in the future; deadlines and events come to an end.

#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_buf::Instant;
use ringway_proto::wire::{HELLO_BYTES, HELLO_BYTES_MAX, MAGIC};
use ringway_proto::{
    CloseCode, HEADER_BYTES, Header, Input, Role, StateName, Stream, StreamConfig,
    TRANSMIT_BYTES_MAX, kind,
};

#[derive(Arbitrary, Debug)]
enum Operation<'a> {
    Bytes(&'a [u8]),
    /// A good hello of the other role.
    Hello,
    /// A frame header, so that the fuzzer need not guess 16 bytes at once.
    Frame {
        kind: u8,
        flags: u8,
        tag: u16,
        length: u16,
        word: u64,
    },
    Zeros(u16),
    Transmit {
        room: u8,
    },
    Advance {
        ms: u32,
    },
    Sent,
    Drain,
    Finish,
    Close(u16),
    End,
}

#[derive(Arbitrary, Debug)]
struct Script<'a> {
    server: bool,
    idle: bool,
    operations: Vec<Operation<'a>>,
}

struct Subject {
    config: StreamConfig,
    stream: Stream,
    role: Role,
    inbox: Vec<u8>,
    /// The first bytes that ever came: who they are decides whether anything may be sent.
    first: Vec<u8>,
    now: Instant,
    /// Rest of a large message that goes elsewhere.
    elsewhere: usize,
    written: usize,
    /// Upper bound of what the machine may have been asked to send so far.
    allowed: usize,
    closed: bool,
}

impl Subject {
    fn new(script: &Script<'_>) -> Self {
        let config = StreamConfig {
            message_bytes_max: 100_000,
            large_bytes_min: 2_048,
            idle_timeout: script.idle.then_some(Duration::from_secs(90)),
            control_burst: 100,
            ..StreamConfig::default()
        };
        let role = if script.server {
            Role::Server
        } else {
            Role::Client
        };
        let now = Instant::from_nanos(1);
        let stream = Stream::new(&config, role, 7, now);
        Self {
            config,
            stream,
            role,
            inbox: Vec::new(),
            first: Vec::new(),
            now,
            elsewhere: 0,
            written: 0,
            allowed: HELLO_BYTES + 3 * HEADER_BYTES,
            closed: false,
        }
    }

    fn apply(&mut self, operation: &Operation<'_>) {
        match operation {
            Operation::Bytes(bytes) => self.receive(bytes),
            Operation::Hello => self.hello(),
            Operation::Frame {
                kind,
                flags,
                tag,
                length,
                word,
            } => {
                let length = u32::from(*length);
                let header = Header {
                    length,
                    kind: *kind,
                    flags: *flags,
                    tag: *tag,
                    word: *word,
                };
                let mut bytes = [0; HEADER_BYTES];
                assert!(header.write(&mut bytes));
                self.receive(&bytes);
            }
            Operation::Zeros(count) => self.receive(&vec![0; usize::from(*count)]),
            Operation::Transmit { room } => self.transmit(usize::from(*room)),
            Operation::Advance { ms } => self.advance(*ms),
            Operation::Sent => self.stream.sent(self.now),
            Operation::Drain => self.stream.drain(self.now),
            Operation::Finish => {
                self.stream.finish();
                assert!(!self.stream.may_send());
            }
            Operation::Close(code) => {
                self.stream.close(CloseCode::from_wire(*code));
                assert!(!self.stream.is_open());
            }
            Operation::End => {
                self.stream.handle_end(self.inbox.len(), self.now);
                assert_eq!(self.stream.state(), StateName::Ended);
                assert!(!self.stream.wants_transmit());
            }
        }
        // Each event can wait once.
        assert!((0..=4).any(|_| self.stream.poll_event().is_none()));
        let deadline = self.stream.poll_timeout(&self.config);
        let running = self.stream.state() == StateName::Hello || self.stream.is_open();
        assert_eq!(
            deadline.is_some(),
            running,
            "an unfinished connection has a deadline"
        );
    }

    fn hello(&mut self) {
        let other = if self.role == Role::Server {
            Role::Client
        } else {
            Role::Server
        };
        let mut peer = Stream::new(&self.config, Role::Client, 8, self.now);
        let mut bytes = [0; HELLO_BYTES];
        assert_eq!(peer.poll_transmit(&mut bytes), HELLO_BYTES);
        bytes[14] = if other == Role::Client { 1 } else { 2 };
        self.receive(&bytes);
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        let missing = 16_usize.saturating_sub(self.first.len()).min(bytes.len());
        self.first.extend_from_slice(&bytes[..missing]);
        self.stream.heard(self.now);
        let skipped = self.elsewhere.min(bytes.len());
        self.elsewhere -= skipped;
        bytes = &bytes[skipped..];
        self.inbox.extend_from_slice(bytes);
        loop {
            let available = self.inbox.len();
            let outcome = self
                .stream
                .handle_bytes(&self.config, &self.inbox, self.now);
            let consumed = match outcome {
                Ok(Input::Need(need)) => {
                    assert!(need > available);
                    assert!(need <= HELLO_BYTES_MAX.max(self.config.large_bytes_min as usize));
                    return;
                }
                Ok(Input::Consumed(consumed)) => {
                    // A ping is answered by one frame; nothing else that is heard is.
                    self.allowed += HEADER_BYTES;
                    consumed
                }
                Ok(Input::Message(header)) => {
                    assert!(self.stream.is_open() && header.kind >= kind::MESSAGE_MIN);
                    assert!(header.length <= self.config.message_bytes_max);
                    header.frame_bytes()
                }
                Ok(Input::Large(header)) => {
                    assert!(self.stream.is_open() && header.kind >= kind::MESSAGE_MIN);
                    assert!(header.length <= self.config.message_bytes_max);
                    assert!(header.frame_bytes() > available && available >= HEADER_BYTES);
                    self.elsewhere = header.frame_bytes() - available;
                    available
                }
                Err(violation) => {
                    assert!(!self.stream.is_open());
                    assert!(!violation.to_string().is_empty());
                    if violation.code().is_none() {
                        assert!(!self.stream.wants_transmit(), "{violation}");
                    }
                    self.inbox.clear();
                    return;
                }
            };
            assert!(consumed > 0 && consumed <= available);
            self.inbox.drain(..consumed);
        }
    }

    fn transmit(&mut self, room: usize) {
        let mut out = [0xAA; TRANSMIT_BYTES_MAX];
        let room = room.min(out.len());
        let len = self.stream.poll_transmit(&mut out[..room]);
        assert!(len <= room && len.is_multiple_of(HEADER_BYTES));
        assert!(
            out[len..].iter().all(|byte| *byte == 0xAA),
            "writes only what it says"
        );
        if len == 0 {
            return;
        }
        assert!(!self.closed, "CLOSE is the last frame");
        let greeted = self.first.starts_with(&MAGIC) && self.first.len() >= 16;
        assert!(
            self.role == Role::Client || greeted,
            "a stranger gets no bytes"
        );
        let frames = if self.written == 0 { HELLO_BYTES } else { 0 };
        for frame in out[frames..len].chunks(HEADER_BYTES) {
            let header = Header::read(frame).expect("whole frames");
            assert!((kind::PING..=kind::CLOSE).contains(&header.kind) && header.length == 0);
            assert!(!self.closed);
            self.closed = header.kind == kind::CLOSE;
        }
        self.written += len;
        assert!(
            self.written <= self.allowed,
            "{} of {}",
            self.written,
            self.allowed
        );
    }

    fn advance(&mut self, ms: u32) {
        self.now = self.now + Duration::from_millis(u64::from(ms));
        let timeout = self.stream.handle_timeout(&self.config, self.now);
        self.allowed += HEADER_BYTES;
        if timeout.is_some() {
            assert_eq!(self.stream.state(), StateName::Closed);
        }
        let next = self.stream.poll_timeout(&self.config);
        assert!(next.is_none_or(|next| next > self.now));
    }
}

fuzz_target!(|script: Script<'_>| {
    let mut subject = Subject::new(&script);
    for operation in &script.operations {
        subject.apply(operation);
    }
    subject.transmit(TRANSMIT_BYTES_MAX);
    assert!(
        !subject.stream.wants_transmit(),
        "the bound is room for everything"
    );
});
