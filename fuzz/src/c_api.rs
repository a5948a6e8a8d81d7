//! Random sequences of calls of the C API with random arguments, as foreign code might make them: with ids that live,
//! are over, belong to others or were made up, and with sizes that are right or not. No crash, no panic, nothing left.
//!
//! What the header asks of its caller is kept: pointers are NULL, misaligned or good for what they are said to hold, and
//! memory that is sent by reference stays. Played by the fuzz target `c_api` and by the unit tests of `ringway-c`.

use core::ffi::c_void;
use core::ptr::{null, null_mut};

/// Steps of one sequence; what is left of its bytes is not read.
const STEPS_MAX: usize = 400;
/// Engines that live at once: starting one costs a millisecond.
const ENGINES_MAX: usize = 2;
/// Ids of each kind that are remembered, the last ones.
const KEPT: usize = 16;
/// What is sent from, and read into.
const BYTES: usize = 1 << 17;
const PANIC: i32 = -14;

static SENT: [u8; BYTES] = [0x5A; BYTES];

#[repr(C)]
struct Config {
    struct_size: u32,
    driver: u32,
    idle: u32,
    message_bytes_max: u32,
    spin_ns: u64,
    connect_timeout_ns: u64,
    budget_bytes: u64,
    queue_bytes_max: u64,
    connections_max: u32,
    leases_max: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Event {
    kind: u32,
    status: i32,
    id: u64,
    user: u64,
    data: *const u8,
    len: u64,
    lease: u64,
    method: u32,
    tag: u16,
    flags: u8,
    message_kind: u8,
    word: u64,
}

const NO_EVENT: Event = Event {
    kind: 0,
    status: 0,
    id: 0,
    user: 0,
    data: null(),
    len: 0,
    lease: 0,
    method: 0,
    tag: 0,
    flags: 0,
    message_kind: 0,
    word: 0,
};

#[repr(C)]
struct Buf {
    data: *mut u8,
    len: usize,
    lease: u64,
}

#[repr(C)]
struct Options {
    struct_size: u32,
    flags: u32,
    timeout_ns: i64,
    metadata: *const c_void,
    metadata_len: usize,
    lease: u64,
    priority: u32,
    reserved: u32,
}

#[repr(C)]
struct Method {
    name: *const u8,
    name_len: usize,
    kind: u32,
    schema: u32,
    codec: u8,
    idempotent: u8,
    reserved: [u8; 6],
}

unsafe extern "C" {
    fn rw_engine_create(config: *const Config, engine: *mut u64) -> i32;
    fn rw_engine_destroy(engine: u64) -> i32;
    fn rw_engine_drain(engine: u64) -> i32;
    fn rw_listen(engine: u64, address: *const u8, len: usize, to: *mut u64) -> i32;
    fn rw_serve(engine: u64, address: *const u8, len: usize, to: *mut u64) -> i32;
    fn rw_unlisten(engine: u64, listener: u64) -> i32;
    fn rw_listener_address(engine: u64, id: u64, to: *mut u8, cap: usize, len: *mut usize) -> i32;
    fn rw_connect(engine: u64, address: *const u8, len: usize, to: *mut u64) -> i32;
    fn rw_close(engine: u64, connection: u64, code: u16) -> i32;
    fn rw_drain(engine: u64, connection: u64) -> i32;
    fn rw_hold(engine: u64, connection: u64, hold: i32) -> i32;
    fn rw_pause(engine: u64, connection: u64, pause: i32) -> i32;
    fn rw_queued_bytes(engine: u64, connection: u64, bytes: *mut u64) -> i32;
    fn rw_poll(engine: u64, events: *mut Event, cap: u32, count: *mut u32, timeout: i64) -> i32;
    fn rw_event_fd(engine: u64, fd: *mut i32) -> i32;
    fn rw_event_arm(engine: u64) -> i32;
    fn rw_wake(engine: u64) -> i32;
    fn rw_timer_set(engine: u64, delay: u64, user: u64, timer: *mut u64) -> i32;
    fn rw_timer_cancel(engine: u64, timer: u64) -> i32;
    fn rw_claim(engine: u64, connection: u64, len: usize, buf: *mut Buf) -> i32;
    fn rw_commit(engine: u64, len: usize) -> i32;
    fn rw_commit_as(engine: u64, len: usize, kind: u8, flags: u8, tag: u16, word: u64) -> i32;
    fn rw_abort(engine: u64) -> i32;
    fn rw_send(engine: u64, connection: u64, data: *const u8, len: usize) -> i32;
    fn rw_send_ref(engine: u64, connection: u64, data: *const u8, len: usize, user: u64) -> i32;
    fn rw_lease_new(engine: u64, len: usize, buf: *mut Buf) -> i32;
    fn rw_lease_truncate(engine: u64, lease: u64, len: usize) -> i32;
    fn rw_lease_data(engine: u64, lease: u64, buf: *mut Buf) -> i32;
    fn rw_send_lease(engine: u64, connection: u64, lease: u64) -> i32;
    fn rw_release(engine: u64, lease: u64) -> i32;
    fn rw_detach(engine: u64, lease: u64, buf: *mut Buf) -> i32;
    fn rw_detached_data(detached: u64, buf: *mut Buf) -> i32;
    fn rw_detached_release(detached: u64) -> i32;
    fn rw_attach(engine: u64, detached: u64, buf: *mut Buf) -> i32;
    fn rw_channel_open(engine: u64, address: *const u8, len: usize, channel: *mut u64) -> i32;
    fn rw_channel_close(engine: u64, channel: u64) -> i32;
    fn rw_channel_ready(engine: u64, channel: u64, timeout: i64) -> i32;
    fn rw_method_bind(
        engine: u64,
        channel: u64,
        name: *const u8,
        len: usize,
        kind: u32,
        codec: u8,
        schema: u32,
        method: *mut u32,
    ) -> i32;
    fn rw_call(
        engine: u64,
        channel: u64,
        method: u32,
        options: *const Options,
        data: *const u8,
        len: usize,
        user: u64,
        call: *mut u64,
    ) -> i32;
    fn rw_call_one_way(
        engine: u64,
        channel: u64,
        method: u32,
        options: *const Options,
        data: *const u8,
        len: usize,
    ) -> i32;
    fn rw_call_sync(
        engine: u64,
        channel: u64,
        method: u32,
        options: *const Options,
        data: *const u8,
        len: usize,
        response: *mut Event,
    ) -> i32;
    fn rw_call_cancel(engine: u64, call: u64) -> i32;
    fn rw_stream_send(engine: u64, call: u64, data: *const u8, len: usize, end: i32) -> i32;
    fn rw_stream_end(engine: u64, call: u64) -> i32;
    fn rw_answer_text(engine: u64, lease: u64, to: *mut u8, cap: usize, len: *mut usize) -> i32;
    fn rw_service_add(
        engine: u64,
        name: *const u8,
        len: usize,
        methods: *const Method,
        count: u32,
        first: *mut u32,
    ) -> i32;
    fn rw_request_user(engine: u64, request: u64, user: u64) -> i32;
    fn rw_reply(engine: u64, request: u64, data: *const u8, len: usize) -> i32;
    fn rw_reply_lease(engine: u64, request: u64, lease: u64) -> i32;
    fn rw_reply_send(engine: u64, request: u64, data: *const u8, len: usize) -> i32;
    fn rw_reply_send_lease(engine: u64, request: u64, lease: u64) -> i32;
    fn rw_reply_end(engine: u64, request: u64) -> i32;
    fn rw_reply_metadata(engine: u64, request: u64, block: *const u8, len: usize) -> i32;
    fn rw_reply_error(engine: u64, request: u64, code: u32, text: *const u8, len: usize) -> i32;
    fn rw_threads_stop(threads: u64) -> i32;
}

/// The bytes that choose.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    /// Mostly short, now and then long.
    fn len(&mut self) -> usize {
        match self.byte() {
            byte @ 0..=199 => usize::from(byte),
            200..=229 => 4000 + self.below(200),
            230..=250 => 1 << (10 + self.below(7)),
            _ => BYTES,
        }
    }
}

/// Ids that were seen, of all kinds alike: each function gets those of any.
#[derive(Default)]
struct Ids(Vec<u64>);

impl Ids {
    fn add(&mut self, id: u64) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(id);
    }

    /// What a function gave, if it went well.
    fn seen(&mut self, status: i32, id: u64) {
        if status == 0 {
            self.add(id);
        }
    }

    /// One of them, mostly.
    fn any(&self, choices: &mut Choices<'_>) -> u64 {
        match choices.byte() {
            0..=4 => 0,
            5..=9 => choices.word(),
            byte => self
                .0
                .get(usize::from(byte) % self.0.len().max(1))
                .copied()
                .unwrap_or(1),
        }
    }
}

const NAMES: [&str; 4] = ["f.S/Unary", "f.S/Up", "f.S/Down", "f.S/Both"];

fn methods() -> [Method; 4] {
    let mut kind = 0;
    NAMES.map(|name| {
        let own = &name["f.S/".len()..];
        kind += 1;
        Method {
            name: own.as_ptr(),
            name_len: own.len(),
            kind: kind - 1,
            schema: 0,
            codec: 0,
            idempotent: 0,
            reserved: [0; 6],
        }
    })
}

#[derive(Default)]
struct Play {
    engines: Vec<u64>,
    connections: Ids,
    leases: Ids,
    listeners: Ids,
    channels: Ids,
    calls: Ids,
    requests: Ids,
    timers: Ids,
    detached: Vec<u64>,
    addresses: Vec<Vec<u8>>,
}

/// Plays one sequence.
pub(crate) fn play(bytes: &[u8]) {
    let (mut play, mut choices) = (Play::default(), Choices(bytes));
    play.start();
    play.meet();
    for _ in 0..STEPS_MAX {
        if choices.0.is_empty() {
            break;
        }
        play.step(&mut choices);
    }
    for engine in play.engines.drain(..) {
        // SAFETY: no pointers.
        assert_eq!(unsafe { rw_engine_destroy(engine) }, 0);
    }
    for detached in play.detached.drain(..) {
        // SAFETY: no pointers.
        assert_eq!(
            unsafe { rw_detached_release(detached) },
            0,
            "they outlive their engines"
        );
    }
}

impl Play {
    fn start(&mut self) {
        let config = Config {
            struct_size: 56,
            driver: 2,
            idle: 2,
            message_bytes_max: 1 << 17,
            spin_ns: 0,
            connect_timeout_ns: 0,
            budget_bytes: 32 << 20,
            queue_bytes_max: 1 << 18,
            connections_max: 64,
            leases_max: 32,
        };
        let mut engine = 0;
        // SAFETY: both live during the call.
        if unsafe { rw_engine_create(&raw const config, &raw mut engine) } == 0 {
            self.engines.push(engine);
        }
    }

    /// The first engine serves and calls itself, and has a connection for messages: most of what follows needs that.
    fn meet(&mut self) {
        let engine = *self.engines.first().expect("an engine is made");
        let (address, methods, mut number) = ("tcp://127.0.0.1:0", methods(), 0);
        let (mut served, mut heard, mut channel, mut id) = (0, 0, 0, 0);
        let (text, len) = (address.as_ptr(), address.len());
        let list = methods.as_ptr();
        // SAFETY, for all of them: pointers lead to live values of this function.
        let added = unsafe { rw_service_add(engine, "f.S".as_ptr(), 3, list, 4, &raw mut number) };
        let serves = unsafe { rw_serve(engine, text, len, &raw mut served) };
        let hears = unsafe { rw_listen(engine, text, len, &raw mut heard) };
        assert_eq!((added, serves, hears), (0, 0, 0));
        self.listening(engine, heard);
        self.listening(engine, served);
        let [heard, served] = [&self.addresses[0], &self.addresses[1]];
        let to = &raw mut channel;
        assert_eq!(
            unsafe { rw_channel_open(engine, served.as_ptr(), served.len(), to) },
            0
        );
        assert_eq!(
            unsafe { rw_connect(engine, heard.as_ptr(), heard.len(), &raw mut id) },
            0
        );
        assert_eq!(unsafe { rw_channel_ready(engine, channel, -1) }, 0);
        for (name, kind) in NAMES.iter().zip(0..) {
            let (text, to) = (name.as_ptr(), &raw mut number);
            let bound =
                unsafe { rw_method_bind(engine, channel, text, name.len(), kind, 0, 0, to) };
            assert_eq!(bound, 0);
        }
        self.channels.add(channel);
        self.connections.add(id);
    }

    fn event(&mut self, engine: u64, event: &Event, choices: &mut Choices<'_>) {
        match event.kind {
            8 => self.requests.add(event.id),
            10..=15 => {}
            1..=5 => self.connections.add(event.id),
            _ => {}
        }
        if event.lease != 0 {
            // SAFETY: the event's bytes stay until their lease is released.
            let bytes = unsafe { core::slice::from_raw_parts(event.data, event.len as usize) };
            core::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
            if choices.byte() < 100 {
                self.leases.add(event.lease);
            } else {
                // SAFETY: no pointers. An open claim may be in the way of a stream's message.
                let status = unsafe { rw_release(engine, event.lease) };
                assert!(status == 0 || status == -10, "{status}");
            }
        }
    }

    /// Something that listens, as text.
    fn address(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        match choices.below(8) {
            0 => b"tcp://127.0.0.1:0".to_vec(),
            1 => b"rudp://127.0.0.1:0".to_vec(),
            2 => b"udp://127.0.0.1:0".to_vec(),
            3 => (0..choices.below(20)).map(|_| choices.byte()).collect(),
            _ => {
                let at = choices.below(self.addresses.len());
                let known = self.addresses.get(at).cloned();
                known.unwrap_or_else(|| b"tcp://127.0.0.1:1".to_vec())
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: one arm for each function")]
    fn step(&mut self, choices: &mut Choices<'_>) {
        let engine = match choices.byte() {
            0..=3 => choices.word(),
            byte => {
                let at = usize::from(byte) % self.engines.len().max(1);
                self.engines.get(at).copied().unwrap_or(7)
            }
        };
        let (mut id, mut number, mut len) = (0_u64, 0_u32, 0_usize);
        let mut buf = Buf {
            data: null_mut(),
            len: 0,
            lease: 0,
        };
        let connection = self.connections.any(choices);
        let lease = self.leases.any(choices);
        let request = self.requests.any(choices);
        let channel = self.channels.any(choices);
        let call = self.calls.any(choices);
        let count = choices.len();
        let data = if choices.byte() < 3 {
            null()
        } else {
            SENT.as_ptr()
        };
        let options = Options {
            struct_size: if choices.byte() < 3 {
                u32::from(choices.byte()) % 48
            } else {
                48
            },
            flags: u32::from(choices.byte() % 9),
            timeout_ns: i64::from(choices.byte()) * 4000,
            metadata: null(),
            metadata_len: usize::from(choices.byte() < 3),
            lease: if choices.byte() < 20 { lease } else { 0 },
            priority: u32::from(choices.byte() % 9),
            reserved: 0,
        };
        let at = choices.below(NAMES.len());
        let name = NAMES[at];
        let flag = i32::from(choices.byte() % 2);
        let options = &raw const options;
        let buf_at = if choices.byte() < 3 {
            null_mut()
        } else {
            &raw mut buf
        };
        // SAFETY, for all of them: pointers are NULL or lead to live values of this function, or to `SENT`, which is as
        // long as the longest `count`; what a claim or a lease gave is written within its length.

        let status = match choices.below(52) {
            0..=9 => {
                let mut events = [NO_EVENT; 4];
                let wait = i64::from(choices.byte() % 4) * 50_000;
                let status =
                    unsafe { rw_poll(engine, events.as_mut_ptr(), 4, &raw mut number, wait) };
                for event in events.iter().take(number as usize) {
                    self.event(engine, event, choices);
                }
                status
            }
            10 => {
                let address = self.address(choices);
                unsafe { rw_listen(engine, address.as_ptr(), address.len(), &raw mut id) }
            }
            11 | 12 => {
                let address = self.address(choices);
                unsafe { rw_serve(engine, address.as_ptr(), address.len(), &raw mut id) }
            }
            13 => {
                let listener = self.listeners.any(choices);
                unsafe { rw_unlisten(engine, listener) }
            }
            14 | 15 => {
                let address = self.address(choices);
                let to = &raw mut id;
                let status = unsafe { rw_connect(engine, address.as_ptr(), address.len(), to) };
                self.connections.seen(status, id);
                status
            }
            16 => unsafe { rw_close(engine, connection, u16::from(choices.byte())) },
            17 => unsafe { rw_drain(engine, connection) },
            18 => unsafe { rw_hold(engine, connection, flag) },
            19 => unsafe { rw_pause(engine, connection, flag) },
            20 => unsafe { rw_queued_bytes(engine, connection, &raw mut id) },
            21 => {
                let mut fd = 0;
                unsafe { rw_event_fd(engine, &raw mut fd) }
            }
            22 => unsafe { rw_event_arm(engine) },
            23 => unsafe { rw_wake(engine) },
            24 => {
                let status = unsafe { rw_timer_set(engine, 1000, choices.word(), &raw mut id) };
                self.timers.seen(status, id);
                status
            }
            25 => {
                let timer = self.timers.any(choices);
                unsafe { rw_timer_cancel(engine, timer) }
            }
            26 => {
                let status = unsafe { rw_claim(engine, connection, count, buf_at) };
                if status == 0 {
                    unsafe { buf.data.write_bytes(0xC3, buf.len) };
                }
                status
            }
            27 => unsafe { rw_commit(engine, count) },
            28 => unsafe { rw_commit_as(engine, count, choices.byte(), 1, 2, 3) },
            29 => unsafe { rw_abort(engine) },
            30 => unsafe { rw_send(engine, connection, data, count) },
            31 => unsafe { rw_send_ref(engine, connection, data, count, 5) },
            32 => {
                let status = unsafe { rw_lease_new(engine, count, buf_at) };
                if status == 0 {
                    unsafe { buf.data.write_bytes(0x3C, buf.len) };
                    self.leases.add(buf.lease);
                }
                status
            }
            33 => unsafe { rw_lease_truncate(engine, lease, count) },
            34 => unsafe { rw_lease_data(engine, lease, buf_at) },
            35 => unsafe { rw_send_lease(engine, connection, lease) },
            36 => unsafe { rw_release(engine, lease) },
            37 => {
                let status = unsafe { rw_detach(engine, lease, buf_at) };
                if status == 0 {
                    self.detached.push(buf.lease);
                }
                status
            }
            38 => {
                let at = choices.below(self.detached.len());
                let detached = self.detached.get(at).copied().unwrap_or(lease);
                let status = unsafe { rw_attach(engine, detached, buf_at) };
                if status == 0 {
                    self.leases.add(buf.lease);
                }
                status.max(unsafe { rw_detached_data(detached, buf_at) })
            }
            39 => {
                let address = self.address(choices);
                let to = &raw mut id;
                let status =
                    unsafe { rw_channel_open(engine, address.as_ptr(), address.len(), to) };
                self.channels.seen(status, id);
                status
            }
            40 => match choices.byte() {
                0..=60 => unsafe { rw_channel_close(engine, channel) },
                _ => unsafe { rw_channel_ready(engine, channel, 200_000) },
            },
            41 => {
                let (kind, schema) = (at as u32, u32::from(choices.byte() < 10));
                let (text, to) = (name.as_ptr(), &raw mut number);
                unsafe { rw_method_bind(engine, channel, text, name.len(), kind, 0, schema, to) }
            }
            42 | 43 => {
                let (method, to) = (at as u32, &raw mut id);
                let status =
                    unsafe { rw_call(engine, channel, method, options, data, count, 9, to) };
                self.calls.seen(status, id);
                status
            }
            44 => match choices.byte() {
                0..=127 => unsafe {
                    rw_call_one_way(engine, channel, at as u32, options, data, count)
                },
                _ => unsafe { rw_call_cancel(engine, call) },
            },
            45 => match choices.byte() {
                0..=200 => unsafe { rw_stream_send(engine, call, data, count, flag) },
                _ => unsafe { rw_stream_end(engine, call) },
            },
            46 => self.sync(engine, channel, at as u32, choices),
            47 => {
                let methods = methods();
                let (list, to) = (methods.as_ptr(), &raw mut number);
                unsafe { rw_service_add(engine, "f.S".as_ptr(), 3, list, 4, to) }
            }
            48 => match choices.byte() {
                0..=90 => unsafe { rw_reply(engine, request, data, count) },
                91..=120 => unsafe { rw_reply_lease(engine, request, lease) },
                121..=200 => unsafe { rw_reply_send(engine, request, data, count) },
                _ => unsafe { rw_reply_send_lease(engine, request, lease) },
            },
            49 => match choices.byte() {
                0..=90 => unsafe { rw_reply_end(engine, request) },
                91..=180 => unsafe {
                    rw_reply_error(engine, request, count as u32, name.as_ptr(), 6)
                },
                181..=220 => unsafe { rw_request_user(engine, request, 3) },
                _ => unsafe { rw_reply_metadata(engine, request, data, count) },
            },
            50 => {
                let mut text = [0_u8; 64];
                let cap = choices.below(64);
                let to = text.as_mut_ptr();
                let listener = self.listeners.any(choices);
                let asked = unsafe { rw_answer_text(engine, lease, to, cap, &raw mut len) };
                asked.min(unsafe { rw_listener_address(engine, listener, to, cap, &raw mut len) })
            }
            _ => match choices.byte() {
                0..=9 if self.engines.len() > 1 => {
                    let at = choices.below(self.engines.len());
                    let gone = self.engines.remove(at);
                    unsafe { rw_engine_destroy(gone) }
                }
                10..=90 if self.engines.len() < ENGINES_MAX => {
                    self.start();
                    0
                }
                91..=99 => unsafe { rw_engine_drain(engine) },
                _ => unsafe { rw_threads_stop(lease) },
            },
        };
        assert!((-16..=1).contains(&status) && status != PANIC, "{status}");
        if id != 0 && status == 0 {
            self.listening(engine, id);
        }
    }

    /// A call that is waited for; its time is short.
    fn sync(&mut self, engine: u64, channel: u64, method: u32, choices: &mut Choices<'_>) -> i32 {
        let options = Options {
            struct_size: 48,
            flags: 0,
            timeout_ns: 500_000,
            metadata: null(),
            metadata_len: 0,
            lease: 0,
            priority: 4,
            reserved: 0,
        };
        let mut event = NO_EVENT;
        let (options, to) = (&raw const options, &raw mut event);
        let (data, len) = (SENT.as_ptr(), choices.below(100));
        // SAFETY: all of them live during the call.
        let status = unsafe { rw_call_sync(engine, channel, method, options, data, len, to) };
        if status == 0 {
            self.event(engine, &event, choices);
        }
        status
    }

    /// Remembers where a listener listens, if the id is one.
    fn listening(&mut self, engine: u64, id: u64) {
        let (mut text, mut len) = ([0_u8; 64], 0);
        let to = text.as_mut_ptr();
        // SAFETY: as much room as it is told.
        if unsafe { rw_listener_address(engine, id, to, 64, &raw mut len) } == 0 {
            self.listeners.add(id);
            if self.addresses.len() == KEPT {
                self.addresses.remove(0);
            }
            self.addresses.push(text[..len.min(64)].to_vec());
        }
    }
}
