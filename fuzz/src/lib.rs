//! What the targets of calls share: machines with tiny limits, frames in memory, and frames of strangers.

pub mod rudp;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use arbitrary::Arbitrary;
use ringway_buf::{Pools, PoolsConfig, RecvBuffer, Slice};
use ringway_call::{
    Binding, Blocked, CallConfig, CallId, Callee, Caller, Compressors, Frame, Head, Keep, Kind,
    MethodTable, Outlet, Way, method_id, wire,
};

/// Frames on their way.
#[derive(Default)]
pub struct Line {
    pub frames: VecDeque<(Head, Vec<u8>)>,
    /// More frames than these are refused; 0: no limit.
    pub limit: usize,
}

impl Line {
    fn room(&self) -> Result<(), Blocked> {
        if self.limit > 0 && self.frames.len() >= self.limit {
            Err(Blocked::Full)
        } else {
            Ok(())
        }
    }
}

impl Outlet for Line {
    fn frame(
        &mut self,
        _way: Way,
        head: Head,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), Blocked> {
        self.room()?;
        let mut body = vec![0; len];
        fill(&mut body);
        self.frames.push_back((head, body));
        Ok(())
    }

    fn slice(&mut self, _way: Way, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
        match self.room() {
            Ok(()) => {
                self.frames.push_back((head, slice.bytes().to_vec()));
                Ok(())
            }
            Err(blocked) => Err((slice, blocked)),
        }
    }

    fn queued_bytes(&self) -> usize {
        self.frames.iter().map(|(_, body)| 16 + body.len()).sum()
    }
}

/// A frame's body, kept by copying.
pub struct Copied<'a>(pub &'a [u8]);

impl Copied<'_> {
    pub fn frame(&self, head: Head) -> Frame<'_> {
        Frame {
            head,
            body: self.0,
            keep: self,
        }
    }
}

impl Keep for Copied<'_> {
    fn retain(&self, range: Range<usize>) -> Slice {
        let part = &self.0[range];
        let pools = Pools::new(PoolsConfig::default());
        let mut lease = pools.lease(part.len()).expect("memory");
        lease.reset(0);
        lease.append(part.len()).expect("room").copy_from_slice(part);
        lease.freeze()
    }
}

/// A frame of a stranger, and what this end does beside it.
#[derive(Arbitrary, Debug)]
pub struct Foreign {
    kind: u8,
    pub flags: u8,
    pub tag: u8,
    pub slot: u8,
    generation: u8,
    arg: u32,
    pub body: Vec<u8>,
    act: u8,
    micros: u16,
}

impl Foreign {
    /// Mostly of kinds that exist, and of few calls.
    pub fn head(&self) -> Head {
        let call = u32::from(self.slot % 8) | u32::from(self.generation % 3) << 20;
        let kind = if self.kind < 0xF0 { 0x41 + self.kind % 9 } else { self.kind };
        Head {
            tag: u16::from(self.tag % 4),
            ..Head::new(kind, self.flags, CallId::from_wire(call), self.arg % 100_000)
        }
    }

    /// Time that passes before it.
    pub fn pause(&self) -> Duration {
        Duration::from_micros(self.micros.into())
    }

    /// What this end does, 0 to 7.
    pub fn act(&self) -> u8 {
        self.act & 7
    }

    /// Frames of this end that may wait meanwhile; 0: no limit.
    pub fn room(&self) -> usize {
        usize::from(self.act >> 4)
    }

    /// The body, received in the place that `place` gives for it, if it is to be.
    pub fn placed(&self, place: impl FnOnce(&Head) -> Option<RecvBuffer>) -> Option<RecvBuffer> {
        let mut buffer = (self.act & 8 != 0).then(|| place(&self.head())).flatten()?;
        let room = buffer.spare_mut();
        let len = room.len().min(self.body.len());
        room[..len].copy_from_slice(&self.body[..len]);
        buffer.filled(len);
        Some(buffer)
    }
}

pub fn pools() -> Rc<Pools> {
    Rc::new(Pools::new(PoolsConfig {
        budget_bytes: 8 << 20,
        ..PoolsConfig::default()
    }))
}

fn config() -> CallConfig {
    CallConfig {
        calls_max: 6,
        inline_bytes_max: 1024,
        metadata_bytes_max: 256,
        message_bytes_max: 50_000,
        stream_credit: 2048,
        methods_max: 8,
        one_way_max: 2,
        ..CallConfig::default()
    }
}

/// One method of each kind.
pub fn bindings() -> [Binding; 4] {
    let kinds = [Kind::Unary, Kind::ClientStream, Kind::ServerStream, Kind::Bidi];
    kinds.map(|kind| Binding {
        method: method_id(&format!("fuzz.Calls/{kind:?}")),
        schema: 0,
        kind,
        codec: 0,
    })
}

pub fn caller(pools: &Rc<Pools>) -> Caller {
    Caller::new(config(), Rc::clone(pools), Compressors::default())
}

pub fn callee(pools: &Rc<Pools>) -> Callee {
    let table = Rc::new(MethodTable::new(&bindings()));
    Callee::new(config(), table, Rc::clone(pools), Compressors::default())
}

/// The body of SETTINGS with the same limits.
pub fn settings() -> [u8; wire::SETTINGS_BYTES] {
    let config = config();
    let settings = wire::Settings {
        calls_max: config.calls_max,
        inline_bytes_max: config.inline_bytes_max,
        metadata_bytes_max: config.metadata_bytes_max,
        message_bytes_max: config.message_bytes_max,
        stream_credit: config.stream_credit,
        methods_max: config.methods_max,
        compressors: 0,
        reserved: 0,
    };
    settings.to_bytes()
}
