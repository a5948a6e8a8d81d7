//! Both machines of a connection and an arbitrary schedule of calls, messages, delivery, time and full queues.
//!
//! Checked: neither ever accuses the other; messages arrive whole and in order; every call ends exactly once, and
//! all end when everything is delivered and the handlers are done.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use ringway_buf::Instant;
use ringway_call::{CallId, Callee, CalleeEvent, Caller, CallerEvent, Open, Status};
use ringway_fuzz::{Copied, Line, bindings, callee, caller, pools};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Operation {
    Open { method: u8, len: u16, end: bool, deadline: bool },
    Send { which: u8, len: u16, end: bool },
    End { which: u8 },
    Cancel { which: u8 },
    Answer { which: u8, len: u16 },
    Finish { which: u8 },
    Deliver { down: bool, count: u8 },
    Grant,
    Pass { micros: u16 },
    Room { down: bool, frames: u8 },
}

struct Pair {
    caller: Caller,
    callee: Callee,
    down: Line,
    up: Line,
    now: Instant,
    /// Open calls at the client, with the number of the next message; calls at the server, the same.
    calls: BTreeMap<CallId, u8>,
    tasks: BTreeMap<CallId, u8>,
    /// Messages sent and come.
    sent: BTreeMap<CallId, u8>,
    answered: BTreeMap<CallId, u8>,
    owed: Vec<(bool, CallId, u32)>,
}

fn body(number: u8, len: u16) -> Vec<u8> {
    vec![number; usize::from(len % 6000) + 1]
}

fn check(message: &[u8], expected: &mut u8) {
    assert!(message.iter().all(|byte| byte == expected), "intact and in order");
    *expected = expected.wrapping_add(1);
}

impl Pair {
    fn at_client(&mut self, event: CallerEvent<'_>) {
        match event {
            CallerEvent::Ended { call, .. } => {
                assert!(self.calls.remove(&call).is_some(), "a call ends once");
            }
            CallerEvent::Message { call, message, cost } => {
                check(&message, self.calls.get_mut(&call).expect("it is open"));
                self.owed.push((true, call, cost));
            }
            CallerEvent::Ready | CallerEvent::Bound { .. } | CallerEvent::Writable { .. } => {}
        }
    }

    fn at_server(&mut self, event: CalleeEvent<'_>) {
        match event {
            CalleeEvent::Opened(opened) => {
                let mut next = 0;
                check(opened.message.as_deref().unwrap_or_default(), &mut next);
                assert!(self.tasks.insert(opened.call, next).is_none());
                self.answered.insert(opened.call, 0);
            }
            CalleeEvent::Message { call, message, cost, .. } => {
                check(&message, self.tasks.get_mut(&call).expect("it is open"));
                self.owed.push((false, call, cost));
            }
            CalleeEvent::Cancelled { call, reason } => {
                assert!(self.tasks.contains_key(&call));
                assert_ne!(reason, ringway_call::CancelReason::Broken);
            }
            CalleeEvent::Ended { call } => assert!(self.tasks.contains_key(&call)),
            CalleeEvent::Writable { .. } => {}
        }
    }

    fn deliver(&mut self, down: bool) -> bool {
        let line = if down { &mut self.down } else { &mut self.up };
        let Some((head, bytes)) = line.frames.pop_front() else {
            return false;
        };
        let copied = Copied(&bytes);
        if down {
            let event = self.callee.handle_frame(&mut self.up, copied.frame(head), self.now);
            if let Some(event) = event.expect("the client keeps the rules") {
                self.at_server(event);
            }
        } else {
            let event = self.caller.handle_frame(&mut self.down, copied.frame(head), self.now);
            if let Some(event) = event.expect("the server keeps the rules") {
                self.at_client(event);
            }
        }
        self.events();
        true
    }

    fn events(&mut self) {
        self.caller.flush(&mut self.down);
        self.callee.flush(&mut self.up);
        while let Some(event) = self.caller.poll_event() {
            self.at_client(event);
        }
        while let Some(event) = self.callee.poll_event() {
            self.at_server(event);
        }
    }

    fn call(&self, which: u8) -> Option<CallId> {
        let at = usize::from(which).checked_rem(self.calls.len())?;
        self.calls.keys().nth(at).copied()
    }

    fn task(&self, which: u8) -> Option<CallId> {
        let at = usize::from(which).checked_rem(self.tasks.len())?;
        self.tasks.keys().nth(at).copied()
    }

    fn grant(&mut self) {
        for (client, call, cost) in std::mem::take(&mut self.owed) {
            if client {
                self.caller.grant(&mut self.down, call, cost);
            } else {
                self.callee.grant(&mut self.up, call, cost);
            }
        }
    }

    fn apply(&mut self, operation: Operation) {
        let now = self.now;
        match operation {
            Operation::Open { method, len, end, deadline } => {
                let open = Open {
                    method: u32::from(method % 4),
                    deadline: deadline.then(|| now + std::time::Duration::from_millis(50)),
                    end,
                    ..Open::default()
                };
                let first = body(0, len);
                if let Ok(call) = self.caller.open(&mut self.down, &open, Some(&first), now) {
                    assert!(self.calls.insert(call, 0).is_none());
                    self.sent.insert(call, 1);
                }
            }
            Operation::Send { which, len, end } => {
                let Some(call) = self.call(which) else { return };
                let next = self.sent.get_mut(&call).expect("it is open");
                let message = body(*next, len);
                if self.caller.send(&mut self.down, call, &message, end, false).is_ok() {
                    *next = next.wrapping_add(1);
                }
            }
            Operation::End { which } => {
                if let Some(call) = self.call(which) {
                    self.caller.end(&mut self.down, call);
                }
            }
            Operation::Cancel { which } => {
                if let Some(call) = self.call(which)
                    && self.caller.cancel(&mut self.down, call)
                {
                    self.calls.remove(&call);
                }
            }
            Operation::Answer { which, len } => {
                let Some(call) = self.task(which) else { return };
                let next = self.answered.get_mut(&call).expect("it is open");
                let message = body(*next, len);
                if self.callee.send(&mut self.up, call, &message, now).is_ok() {
                    *next = next.wrapping_add(1);
                }
            }
            Operation::Finish { which } => {
                if let Some(call) = self.task(which) {
                    self.callee.finish(&mut self.up, call, &Status::OK, &[], now);
                    self.tasks.remove(&call);
                }
            }
            Operation::Deliver { down, count } => {
                for _ in 0..count {
                    self.deliver(down);
                }
            }
            Operation::Grant => self.grant(),
            Operation::Pass { micros } => {
                self.now = now + std::time::Duration::from_micros(micros.into());
                self.caller.handle_timeout(&mut self.down, self.now);
                self.callee.handle_timeout(&mut self.up, self.now);
            }
            Operation::Room { down, frames } => {
                let line = if down { &mut self.down } else { &mut self.up };
                line.limit = usize::from(frames);
            }
        }
        self.events();
    }

    fn settle(&mut self) {
        (self.down.limit, self.up.limit) = (0, 0);
        self.events();
        while self.deliver(true) || self.deliver(false) {
            self.grant();
        }
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let pools = pools();
    let mut pair = Pair {
        caller: caller(&pools),
        callee: callee(&pools),
        down: Line::default(),
        up: Line::default(),
        now: Instant::from_nanos(1),
        calls: BTreeMap::new(),
        tasks: BTreeMap::new(),
        sent: BTreeMap::new(),
        answered: BTreeMap::new(),
        owed: Vec::new(),
    };
    pair.caller.start(&mut pair.down);
    pair.callee.start(&mut pair.up);
    pair.settle();
    pair.caller.bind(&mut pair.down, &bindings()).expect("within the limit");
    for operation in operations {
        pair.apply(operation);
        assert!(pools.budget().used() <= pools.budget().limit());
    }
    pair.grant();
    pair.settle();
    // What the handlers have not ended is all that is left.
    for call in std::mem::take(&mut pair.tasks).into_keys() {
        pair.callee.finish(&mut pair.up, call, &Status::OK, &[], pair.now);
    }
    pair.settle();
    for call in pair.calls.keys() {
        assert!(pair.caller.calls().any(|(id, _)| id == *call));
    }
    assert!(pair.calls.is_empty(), "every call ends: {:?}", pair.calls);
    assert_eq!(pair.caller.calls().count(), 0);
    assert_eq!(pair.callee.calls().count(), 0);
});
