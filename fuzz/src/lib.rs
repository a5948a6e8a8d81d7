//! What the targets of calls share: machines with tiny limits, and frames in memory.

pub mod rudp;

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use ringway_buf::{Pools, PoolsConfig, Slice};
use ringway_call::{
    Binding, Blocked, CallConfig, Callee, Caller, Compressors, Frame, Head, Keep, Kind,
    MethodTable, Outlet, method_id, wire,
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

    fn slice(&mut self, head: Head, slice: Slice) -> Result<(), (Slice, Blocked)> {
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
