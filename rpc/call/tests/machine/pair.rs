//! A client's and a server's machine with a line each way, and everything that they said.

use std::rc::Rc;
use std::time::Duration;

use ringway_buf::{Instant, Pools, PoolsConfig};
use ringway_call::{
    Binding, CallConfig, CallId, Callee, CalleeEvent, Caller, CallerEvent, CancelReason,
    Compressors, Head, Kind, MethodTable, Open, Outlet, Status, Violation, Way, method_id,
};

use crate::line::{Line, received};

/// Methods of the pair's server, one of each kind; the fifth is not there.
pub(crate) const UNARY: u32 = 0;
pub(crate) const CLIENT_STREAM: u32 = 1;
pub(crate) const SERVER_STREAM: u32 = 2;
pub(crate) const BIDI: u32 = 3;
pub(crate) const MISSING: u32 = 4;

pub(crate) fn binding(name: &str, kind: Kind) -> Binding {
    Binding {
        method: method_id(name),
        schema: 9,
        kind,
        codec: 0,
    }
}

pub(crate) fn bindings() -> [Binding; 4] {
    [
        binding("test.Pair/Unary", Kind::Unary),
        binding("test.Pair/ClientStream", Kind::ClientStream),
        binding("test.Pair/ServerStream", Kind::ServerStream),
        binding("test.Pair/Bidi", Kind::Bidi),
    ]
}

/// A call as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) call: CallId,
    pub(crate) method: u32,
    pub(crate) message: Option<Vec<u8>>,
    pub(crate) end: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority: u8,
}

pub(crate) struct Pair {
    pub(crate) caller: Caller,
    pub(crate) callee: Callee,
    pub(crate) down: Line,
    pub(crate) up: Line,
    pub(crate) now: Instant,
    pub(crate) pools: Rc<Pools>,
    /// At the client: ends, messages with their cost, streams that are writable.
    pub(crate) ends: Vec<(CallId, Status, Option<Vec<u8>>)>,
    pub(crate) answers: Vec<(CallId, Vec<u8>, u32)>,
    /// At the server.
    pub(crate) opened: Vec<Seen>,
    pub(crate) messages: Vec<(CallId, Vec<u8>, u32, bool)>,
    pub(crate) ended: Vec<CallId>,
    pub(crate) cancelled: Vec<(CallId, CancelReason)>,
    pub(crate) writable: Vec<CallId>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(CallConfig::default(), &Compressors::default())
    }

    pub(crate) fn with(config: CallConfig, compressors: &Compressors) -> Self {
        Self::over(
            Rc::new(Pools::new(PoolsConfig::default())),
            config,
            compressors,
        )
    }

    pub(crate) fn over(pools: Rc<Pools>, config: CallConfig, compressors: &Compressors) -> Self {
        let table = Rc::new(MethodTable::new(&bindings()));
        let mut pair = Self {
            caller: Caller::new(config, Rc::clone(&pools), compressors.clone()),
            callee: Callee::new(config, table, Rc::clone(&pools), compressors.clone()),
            down: Line::default(),
            up: Line::default(),
            now: Instant::from_nanos(1_000_000_000),
            pools,
            ends: Vec::new(),
            answers: Vec::new(),
            opened: Vec::new(),
            messages: Vec::new(),
            ended: Vec::new(),
            cancelled: Vec::new(),
            writable: Vec::new(),
        };
        pair.caller.start(&mut pair.down);
        pair.callee.start(&mut pair.up);
        pair.settle();
        let mut asked = bindings().to_vec();
        asked.push(binding("test.Pair/Missing", Kind::Unary));
        pair.caller.bind(&mut pair.down, &asked).unwrap();
        pair.settle();
        pair
    }

    pub(crate) fn open(&mut self, method: u32, body: &[u8], end: bool) -> CallId {
        let open = Open {
            method,
            end,
            ..Open::default()
        };
        self.open_as(&open, body)
    }

    pub(crate) fn open_as(&mut self, open: &Open<'_>, body: &[u8]) -> CallId {
        let opened = self.caller.open(&mut self.down, open, Some(body), self.now);
        opened.unwrap()
    }

    /// Puts a frame on the client's line that its machine did not make.
    pub(crate) fn forge(&mut self, head: Head, body: &[u8]) {
        let frame = self.down.frame(Way::InOrder, head, body.len(), |room| {
            room.copy_from_slice(body)
        });
        frame.unwrap();
    }

    /// The same on the server's line.
    pub(crate) fn forge_up(&mut self, head: Head, body: &[u8]) {
        let frame = self.up.frame(Way::InOrder, head, body.len(), |room| {
            room.copy_from_slice(body)
        });
        frame.unwrap();
    }

    /// Delivers the oldest frame to the server.
    pub(crate) fn deliver_one(&mut self) -> Result<bool, Violation> {
        let Some((head, body)) = self.down.frames.pop_front() else {
            return Ok(false);
        };
        received(head, &body, |frame| {
            let event = self.callee.handle_frame(&mut self.up, frame, self.now)?;
            if let Some(event) = event {
                self.at_server(event);
            }
            Ok::<_, Violation>(())
        })?;
        self.server_events();
        Ok(true)
    }

    pub(crate) fn deliver(&mut self) -> Result<(), Violation> {
        while self.deliver_one()? {}
        Ok(())
    }

    /// Delivers the oldest frame to the client.
    pub(crate) fn answer_one(&mut self) -> Result<bool, Violation> {
        let Some((head, body)) = self.up.frames.pop_front() else {
            return Ok(false);
        };
        received(head, &body, |frame| {
            let event = self.caller.handle_frame(&mut self.down, frame, self.now)?;
            if let Some(event) = event {
                self.at_client(event);
            }
            Ok::<_, Violation>(())
        })?;
        self.client_events();
        Ok(true)
    }

    pub(crate) fn answer(&mut self) -> Result<(), Violation> {
        while self.answer_one()? {}
        Ok(())
    }

    /// Delivers all frames, both ways, until none is left.
    pub(crate) fn settle(&mut self) {
        loop {
            self.deliver().unwrap();
            self.answer().unwrap();
            self.caller.flush(&mut self.down);
            self.callee.flush(&mut self.up);
            self.client_events();
            self.server_events();
            if self.down.frames.is_empty() && self.up.frames.is_empty() {
                return;
            }
        }
    }

    /// Lets time pass at both ends.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.caller.handle_timeout(&mut self.down, self.now);
        self.callee.handle_timeout(&mut self.up, self.now);
        self.client_events();
        self.server_events();
    }

    pub(crate) fn client_events(&mut self) {
        while let Some(event) = self.caller.poll_event() {
            self.at_client(event);
        }
    }

    pub(crate) fn server_events(&mut self) {
        while let Some(event) = self.callee.poll_event() {
            self.at_server(event);
        }
    }

    fn at_client(&mut self, event: CallerEvent<'_>) {
        match event {
            CallerEvent::Ended {
                call,
                status,
                message,
                ..
            } => {
                let message = message.map(|it| it.to_vec());
                self.ends.push((call, status.to_status(), message));
            }
            CallerEvent::Message {
                call,
                message,
                cost,
            } => self.answers.push((call, message.to_vec(), cost)),
            CallerEvent::Writable { call } => self.writable.push(call),
            CallerEvent::Ready | CallerEvent::Bound { .. } => {}
        }
    }

    fn at_server(&mut self, event: CalleeEvent<'_>) {
        match event {
            CalleeEvent::Opened(opened) => self.opened.push(Seen {
                call: opened.call,
                method: opened.method,
                message: opened.message.map(|it| it.to_vec()),
                end: opened.end,
                deadline: opened.deadline,
                priority: opened.priority,
            }),
            CalleeEvent::Message {
                call,
                message,
                cost,
                end,
            } => self.messages.push((call, message.to_vec(), cost, end)),
            CalleeEvent::Ended { call } => self.ended.push(call),
            CalleeEvent::Cancelled { call, reason } => self.cancelled.push((call, reason)),
            CalleeEvent::Writable { call } => self.writable.push(call),
        }
    }

    pub(crate) fn reply(&mut self, call: CallId, body: &[u8]) {
        self.callee
            .reply(&mut self.up, call, &[], body, self.now)
            .unwrap();
    }

    pub(crate) fn finish(&mut self, call: CallId, status: &Status) {
        self.callee
            .finish(&mut self.up, call, status, &[], self.now);
    }

    /// The one end that the client has seen since the last time.
    pub(crate) fn the_end(&mut self) -> (CallId, Status, Option<Vec<u8>>) {
        assert_eq!(self.ends.len(), 1, "{:?}", self.ends);
        self.ends.pop().unwrap()
    }
}
