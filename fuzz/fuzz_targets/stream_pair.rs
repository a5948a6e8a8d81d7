//! Two machines and an arbitrary schedule of sending, partial delivery, time, draining and closing.
//!
//! Checked: neither machine ever accuses the other; what arrives is a prefix of what was sent, and all of it
//! when nobody closed; a connection that nobody closed can be drained.

#![no_main]

use std::collections::VecDeque;
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_buf::Instant;
use ringway_proto::stream::frame;
use ringway_proto::{
    CloseCode, Header, Input, Role, StateName, Stream, StreamConfig, StreamEvent,
    TRANSMIT_BYTES_MAX,
};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Operation {
    Send {
        server: bool,
        len: u16,
        kind: u8,
        fill: u8,
    },
    Pad {
        server: bool,
        len: u8,
    },
    Deliver {
        server: bool,
        count: u16,
    },
    Advance {
        ms: u16,
    },
    Drain {
        server: bool,
    },
    Finish {
        server: bool,
    },
    Close {
        server: bool,
    },
}

struct End {
    stream: Stream,
    inbox: Vec<u8>,
    large: Option<Header>,
    sent: VecDeque<Vec<u8>>,
    /// Bytes on their way to the other end.
    wire: VecDeque<u8>,
    drained: u32,
}

struct Pair {
    config: StreamConfig,
    ends: [End; 2],
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let config = StreamConfig {
            message_bytes_max: 10_000,
            large_bytes_min: 1_024,
            keepalive_interval: Some(Duration::from_secs(7)),
            ..StreamConfig::default()
        };
        let now = Instant::ZERO;
        let ends = [Role::Client, Role::Server].map(|role| End {
            stream: Stream::new(&config, role, 1, now),
            inbox: Vec::new(),
            large: None,
            sent: VecDeque::new(),
            wire: VecDeque::new(),
            drained: 0,
        });
        Self { config, ends, now }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Send {
                server,
                len,
                kind,
                fill,
            } => {
                let header = Header {
                    length: u32::from(len % 10_001),
                    kind: kind | 0x40,
                    flags: fill,
                    tag: len,
                    word: u64::from(len),
                };
                self.send(usize::from(server), &header, fill);
            }
            Operation::Pad { server, len } => {
                let end = &mut self.ends[usize::from(server)];
                if end.stream.may_send() {
                    let header = Header::pad(u32::from(len));
                    let mut bytes = vec![0xFF; header.frame_bytes()];
                    frame(&header, &mut bytes).expect("room");
                    end.wire.extend(bytes);
                }
            }
            Operation::Deliver { server, count } => {
                self.deliver(usize::from(server), usize::from(count));
            }
            Operation::Advance { ms } => self.advance(u64::from(ms)),
            Operation::Drain { server } => {
                self.ends[usize::from(server)].stream.drain(self.now);
            }
            Operation::Finish { server } => self.ends[usize::from(server)].stream.finish(),
            Operation::Close { server } => {
                self.ends[usize::from(server)]
                    .stream
                    .close(CloseCode::Normal);
            }
        }
        self.transmit();
    }

    fn send(&mut self, from: usize, header: &Header, fill: u8) {
        let end = &mut self.ends[from];
        if end.stream.may_send() {
            let mut bytes = vec![0xFF; header.frame_bytes()];
            frame(header, &mut bytes).expect("room").fill(fill);
            end.wire.extend(&bytes);
            end.sent.push_back(bytes);
            end.stream.sent(self.now);
        }
    }

    fn transmit(&mut self) {
        for end in &mut self.ends {
            let mut out = [0; TRANSMIT_BYTES_MAX];
            let len = end.stream.poll_transmit(&mut out);
            end.wire.extend(&out[..len]);
            while let Some(event) = end.stream.poll_event() {
                end.drained += u32::from(event == StreamEvent::Drained);
            }
            assert!(end.drained <= 1);
        }
    }

    fn advance(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for end in &mut self.ends {
            if end.stream.handle_timeout(&self.config, self.now).is_some() {
                assert_eq!(end.stream.state(), StateName::Closed);
            }
        }
    }

    fn deliver(&mut self, from: usize, count: usize) {
        let [client, server] = &mut self.ends;
        let (source, target) = if from == 0 {
            (client, server)
        } else {
            (server, client)
        };
        let count = count.min(source.wire.len());
        target.inbox.extend(source.wire.drain(..count));
        target.stream.heard(self.now);
        loop {
            if target.stream.state() == StateName::PeerClosed {
                assert!(target.inbox.is_empty(), "CLOSE is the last frame");
                return;
            }
            let input = match target.large {
                Some(header) if target.inbox.len() < header.frame_bytes() => return,
                Some(header) => Input::Message(header),
                None => target
                    .stream
                    .handle_bytes(&self.config, &target.inbox, self.now)
                    .expect("neither accuses the other"),
            };
            match input {
                Input::Need(need) => {
                    assert!(need > target.inbox.len());
                    return;
                }
                Input::Consumed(consumed) => drop(target.inbox.drain(..consumed)),
                Input::Large(header) => target.large = Some(header),
                Input::Message(header) => {
                    target.large = None;
                    let expected = source.sent.pop_front().expect("it was sent");
                    let got: Vec<u8> = target.inbox.drain(..header.frame_bytes()).collect();
                    assert_eq!(got, expected);
                }
            }
        }
    }

    fn settle(&mut self) {
        while self.ends.iter().any(|end| !end.wire.is_empty()) {
            self.deliver(0, 4_000);
            self.deliver(1, 999);
            self.transmit();
        }
    }

    fn broken(&self) -> bool {
        let is_broken = |end: &End| {
            matches!(
                end.stream.state(),
                StateName::Closed | StateName::PeerClosed
            )
        };
        self.ends.iter().any(is_broken)
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let mut pair = Pair::new();
    for operation in operations {
        pair.apply(operation);
    }
    pair.transmit();
    pair.settle();
    if pair.broken() {
        return;
    }
    assert!(
        pair.ends.iter().all(|end| end.sent.is_empty()),
        "all of it arrived"
    );
    for server in [false, true] {
        pair.apply(Operation::Drain { server });
        pair.apply(Operation::Finish { server });
    }
    pair.settle();
    for end in &pair.ends {
        assert_eq!((end.stream.state(), end.drained), (StateName::Drained, 1));
    }
});
