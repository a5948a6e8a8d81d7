//! One end of a connection as an engine would drive it, without an engine.

use std::time::Duration;

use ringway_buf::Instant;
use ringway_proto::{
    Header, Input, Role, Stream, StreamConfig, StreamEvent, TRANSMIT_BYTES_MAX, Timeout, Violation,
};

/// A machine with a receive buffer, and what came out of it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) config: StreamConfig,
    pub(crate) stream: Stream,
    pub(crate) events: Vec<StreamEvent>,
    pub(crate) messages: Vec<(Header, Vec<u8>)>,
    pub(crate) larges: usize,
    inbox: Vec<u8>,
    /// A message frame that the machine reported as large and that is still incomplete.
    large: Option<Header>,
}

impl End {
    pub(crate) fn new(config: StreamConfig, role: Role, now: Instant) -> Self {
        config.validate().unwrap();
        let seed = match role {
            Role::Client => 1,
            Role::Server => 2,
        };
        let stream = Stream::new(&config, role, seed, now);
        Self {
            config,
            stream,
            events: Vec::new(),
            messages: Vec::new(),
            larges: 0,
            inbox: Vec::new(),
            large: None,
        }
    }

    /// Receives one batch; checks that the machine always makes progress or asks for more than it was shown.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Violation> {
        self.inbox.extend_from_slice(bytes);
        self.stream.heard(now);
        loop {
            if let Some(header) = self.large {
                if self.inbox.len() < header.frame_bytes() {
                    return Ok(());
                }
                self.large = None;
                self.deliver(header);
                continue;
            }
            match self.stream.handle_bytes(&self.config, &self.inbox, now)? {
                Input::Need(need) => {
                    assert!(
                        need > self.inbox.len(),
                        "asks for {need}, has {}",
                        self.inbox.len()
                    );
                    assert!(need <= 1024.max(self.config.large_bytes_min as usize));
                    return Ok(());
                }
                Input::Consumed(consumed) => {
                    assert!(consumed > 0 && consumed <= self.inbox.len());
                    self.inbox.drain(..consumed);
                    while let Some(event) = self.stream.poll_event() {
                        self.events.push(event);
                    }
                }
                Input::Message(header) => self.deliver(header),
                Input::Large(header) => {
                    assert!(header.frame_bytes() > self.config.large_bytes_min as usize);
                    assert!(header.frame_bytes() > self.inbox.len());
                    self.larges += 1;
                    self.large = Some(header);
                }
            }
        }
    }

    fn deliver(&mut self, header: Header) {
        let body = self.inbox[16..16 + header.length as usize].to_vec();
        self.inbox.drain(..header.frame_bytes());
        self.messages.push((header, body));
    }

    pub(crate) fn transmit(&mut self) -> Vec<u8> {
        let mut out = [0; TRANSMIT_BYTES_MAX];
        let len = self.stream.poll_transmit(&mut out);
        assert!(
            !self.stream.wants_transmit(),
            "the bound is room for everything"
        );
        out[..len].to_vec()
    }

    pub(crate) fn timeout(&mut self, now: Instant) -> Option<Timeout> {
        let timeout = self.stream.handle_timeout(&self.config, now);
        let next = self.stream.poll_timeout(&self.config);
        assert!(
            next.is_none_or(|next| next > now),
            "{next:?} is not after {now:?}"
        );
        timeout
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.stream.poll_timeout(&self.config)
    }

    pub(crate) fn leftover(&self) -> usize {
        self.inbox.len()
    }

    /// Polls the events that no received bytes brought.
    pub(crate) fn take_events(&mut self) -> Vec<StreamEvent> {
        while let Some(event) = self.stream.poll_event() {
            self.events.push(event);
        }
        std::mem::take(&mut self.events)
    }
}

/// A client and a server whose hellos have passed at `now`, without waiting events.
pub(crate) fn opened(config: &StreamConfig, now: Instant) -> (End, End) {
    let mut client = End::new(config.clone(), Role::Client, now);
    let mut server = End::new(config.clone(), Role::Server, now);
    server.receive(&client.transmit(), now).unwrap();
    client.receive(&server.transmit(), now).unwrap();
    assert!(matches!(client.take_events()[..], [StreamEvent::Opened(_)]));
    assert!(matches!(server.take_events()[..], [StreamEvent::Opened(_)]));
    assert!(client.stream.may_send() && server.stream.may_send());
    (client, server)
}

pub(crate) fn message(len: usize, seed: u8) -> Vec<u8> {
    let header = Header::message(u32::try_from(len).unwrap(), u16::from(seed), len as u64);
    let mut bytes = vec![0xEE; header.frame_bytes()];
    let body = ringway_proto::stream::frame(&header, &mut bytes).unwrap();
    for (at, byte) in body.iter_mut().enumerate() {
        *byte = seed.wrapping_add(at.to_le_bytes()[0]);
    }
    bytes
}

pub(crate) fn header(header: Header) -> [u8; 16] {
    let mut bytes = [0; 16];
    assert!(header.write(&mut bytes));
    bytes
}

pub(crate) fn control(kind: u8, flags: u8, tag: u16, word: u64) -> [u8; 16] {
    header(Header {
        length: 0,
        kind,
        flags,
        tag,
        word,
    })
}

pub(crate) fn at_ms(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}
