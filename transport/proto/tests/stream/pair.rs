//! Two machines, an arbitrary schedule: what arrives is what was sent, in order, once.

use proptest::prelude::*;
use ringway_proto::{CloseCode, Role, StateName, StreamConfig, StreamEvent};

use crate::end::{End, at_ms, message};

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// One end sends a message, if it may.
    Send {
        end: usize,
        len: usize,
    },
    /// Some bytes that one end sent arrive at the other.
    Deliver {
        from: usize,
        count: usize,
    },
    /// Time passes.
    Advance {
        ms: u64,
    },
    Drain {
        end: usize,
    },
    Finish {
        end: usize,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let len = prop_oneof![0..64_usize, 990..1_060_usize, 0..4_000_usize];
    let ms = prop_oneof![8 => 0..100_u64, 1 => 0..4_000_u64];
    prop_oneof![
        8 => (0..2_usize, len).prop_map(|(end, len)| Operation::Send { end, len }),
        12 => (0..2_usize, 1..3_000_usize)
            .prop_map(|(from, count)| Operation::Deliver { from, count }),
        4 => ms.prop_map(|ms| Operation::Advance { ms }),
        1 => (0..2_usize).prop_map(|end| Operation::Drain { end }),
        1 => (0..2_usize).prop_map(|end| Operation::Finish { end }),
    ]
}

/// Two ends, the bytes between them, and what each has sent.
struct Pair {
    ends: [End; 2],
    wires: [Vec<u8>; 2],
    sent: [Vec<Vec<u8>>; 2],
    now_ms: u64,
}

impl Pair {
    fn new() -> Self {
        let config = StreamConfig {
            message_bytes_max: 4_000,
            large_bytes_min: 1_024,
            keepalive_interval: Some(std::time::Duration::from_millis(700)),
            keepalive_interval_min: std::time::Duration::from_millis(500),
            drain_timeout: std::time::Duration::from_secs(20),
            ..StreamConfig::default()
        };
        let client = End::new(config.clone(), Role::Client, at_ms(0));
        let server = End::new(config, Role::Server, at_ms(0));
        Self {
            ends: [client, server],
            wires: Default::default(),
            sent: Default::default(),
            now_ms: 0,
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Send { end, len } => {
                if self.ends[end].stream.may_send() {
                    let bytes = message(len, self.sent[end].len().to_le_bytes()[0]);
                    self.wires[end].extend_from_slice(&bytes);
                    self.sent[end].push(bytes[16..16 + len].to_vec());
                    self.ends[end].stream.sent(at_ms(self.now_ms));
                }
            }
            Operation::Deliver { from, count } => self.deliver(from, count),
            Operation::Advance { ms } => {
                self.now_ms += ms;
                for end in &mut self.ends {
                    // A schedule that lets bytes lie may run into a timeout; the machine then closes itself.
                    if end.timeout(at_ms(self.now_ms)).is_some() {
                        assert_eq!(end.stream.state(), StateName::Closed);
                    }
                }
            }
            Operation::Drain { end } => self.ends[end].stream.drain(at_ms(self.now_ms)),
            Operation::Finish { end } => self.ends[end].stream.finish(),
        }
        for (end, wire) in self.ends.iter_mut().zip(&mut self.wires) {
            wire.extend(end.transmit());
        }
    }

    fn deliver(&mut self, from: usize, count: usize) {
        let count = count.min(self.wires[from].len());
        let bytes: Vec<u8> = self.wires[from].drain(..count).collect();
        let end = &mut self.ends[1 - from];
        if matches!(end.stream.state(), StateName::PeerClosed) {
            assert!(bytes.is_empty(), "CLOSE is the last frame");
            return;
        }
        end.receive(&bytes, at_ms(self.now_ms)).unwrap();
    }

    fn settle(&mut self) {
        while self.wires.iter().any(|wire| !wire.is_empty()) {
            self.apply(Operation::Deliver {
                from: 0,
                count: 777,
            });
            self.apply(Operation::Deliver {
                from: 1,
                count: 333,
            });
        }
    }

    fn received_is_prefix_of_sent(&self) -> bool {
        [0, 1].into_iter().all(|from| {
            let received = &self.ends[1 - from].messages;
            received.len() <= self.sent[from].len()
                && received
                    .iter()
                    .zip(&self.sent[from])
                    .all(|((_, body), sent)| body == sent)
        })
    }
}

proptest! {
    #[test]
    fn messages_arrive_intact_under_every_schedule(
        operations in prop::collection::vec(operation(), 1..300),
    ) {
        let mut pair = Pair::new();
        for operation in operations {
            pair.apply(operation);
        }
        pair.settle();
        prop_assert!(pair.received_is_prefix_of_sent());
        let [client, server] = &mut pair.ends;
        let broken = |end: &End| matches!(end.stream.state(), StateName::Closed | StateName::PeerClosed);
        if broken(client) || broken(server) {
            return Ok(());
        }
        prop_assert_eq!(client.messages.len(), pair.sent[1].len());
        prop_assert_eq!(server.messages.len(), pair.sent[0].len());

        // Whatever came before, the connection can be drained, and both ends see it once.
        for end in [0, 1] {
            pair.apply(Operation::Drain { end });
            pair.apply(Operation::Finish { end });
        }
        pair.settle();
        for end in &mut pair.ends {
            prop_assert_eq!(end.stream.state(), StateName::Drained);
            let events = end.take_events();
            let count = |wanted| events.iter().filter(|event| **event == wanted).count();
            prop_assert_eq!(count(StreamEvent::Drained), 1);
            prop_assert!(count(StreamEvent::Draining) <= 1);
            end.stream.close(CloseCode::Drained);
        }
    }

    // Whatever the bytes: no panic, bounded output, and progress or an end.
    #[test]
    fn no_bytes_break_an_open_machine(
        chunks in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                (0..8_u8, any::<u8>(), any::<u16>(), any::<u64>()).prop_map(
                    |(kind, flags, tag, word)| crate::end::control(kind, flags, tag, word).to_vec()
                ),
                (0..200_usize).prop_map(|len| message(len, 0)),
            ],
            1..40,
        ),
    ) {
        let (_client, mut server) = crate::end::opened(&StreamConfig::default(), at_ms(0));
        for chunk in chunks {
            let outcome = server.receive(&chunk, at_ms(0));
            server.transmit();
            if outcome.is_err() {
                prop_assert!(!server.stream.is_open());
                break;
            }
        }
    }
}
