//! Methods and their names on the wire: a number agreed at connect.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// Unary, or which sides stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One message each way.
    #[default]
    Unary = 0,
    /// The client streams, the server answers once.
    ClientStream = 1,
    /// One request, a stream of answers.
    ServerStream = 2,
    /// Both stream.
    Bidi = 3,
}

impl Kind {
    /// The kind of this number.
    #[must_use]
    pub const fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unary,
            1 => Self::ClientStream,
            2 => Self::ServerStream,
            3 => Self::Bidi,
            _ => return None,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    /// Whether the client sends a stream.
    #[must_use]
    #[inline]
    pub const fn client_streams(self) -> bool {
        matches!(self, Self::ClientStream | Self::Bidi)
    }

    /// Whether the server sends a stream.
    #[must_use]
    #[inline]
    pub const fn server_streams(self) -> bool {
        matches!(self, Self::ServerStream | Self::Bidi)
    }
}

/// The number of a method: FNV-1a, 64 bits, of `package.Service/Method`.
#[must_use]
pub const fn method_id(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        #[expect(clippy::indexing_slicing, reason = "below the length")]
        {
            hash ^= bytes[at] as u64;
        }
        hash = hash.wrapping_mul(0x0000_0100_0000_01B3);
        at += 1;
    }
    hash
}

/// Size of a [`Binding`] on the wire.
pub(crate) const BINDING_BYTES: usize = 16;

/// What both sides have to agree on about a method, `docs/wire/rpc.md#bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// [`method_id`] of its name.
    pub method: u64,
    /// Fingerprint of its messages' layout; 0: any.
    pub schema: u32,
    /// Which sides stream.
    pub kind: Kind,
    /// Number of its codec.
    pub codec: u8,
}

impl Binding {
    pub(crate) fn to_bytes(self) -> [u8; BINDING_BYTES] {
        let mut out = [0; BINDING_BYTES];
        let (method, rest) = out.split_at_mut(8);
        method.copy_from_slice(&self.method.to_le_bytes());
        let (schema, rest) = rest.split_at_mut(4);
        schema.copy_from_slice(&self.schema.to_le_bytes());
        rest.copy_from_slice(&[self.kind.to_wire(), self.codec, 0, 0]);
        out
    }
}

/// A binding as its bytes say; the kind may be unknown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    method: u64,
    schema: u32,
    kind: u8,
    codec: u8,
}

impl Asked {
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (method, rest) = bytes.split_first_chunk()?;
        let (schema, rest) = rest.split_first_chunk()?;
        let [kind, codec, _, _] = *rest.first_chunk()?;
        Some(Self {
            method: u64::from_le_bytes(*method),
            schema: u32::from_le_bytes(*schema),
            kind,
            codec,
        })
    }
}

/// The server's word about one bound method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Both sides agree.
    Ok,
    /// The server has no method of this name.
    Unknown,
    /// The sides disagree on who streams.
    WrongKind,
    /// The sides disagree on the layout of messages.
    WrongSchema,
    /// The sides disagree on the codec.
    WrongCodec,
}

impl Bound {
    pub(crate) const fn from_wire(number: u8) -> Self {
        match number {
            0 => Self::Ok,
            2 => Self::WrongKind,
            3 => Self::WrongSchema,
            4 => Self::WrongCodec,
            _ => Self::Unknown,
        }
    }

    pub(crate) const fn to_wire(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unknown => 1,
            Self::WrongKind => 2,
            Self::WrongSchema => 3,
            Self::WrongCodec => 4,
        }
    }

    /// What it means, cause and fix.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ok => "bound",
            Self::Unknown => "the server has no such method; compare the names, or update it",
            Self::WrongKind => {
                "client and server disagree on who streams; build both from one definition"
            }
            Self::WrongSchema => {
                "client and server disagree on the layout of messages; build both from one definition"
            }
            Self::WrongCodec => {
                "client and server use different codecs for the method; build both from one definition"
            }
        }
    }
}

/// A server's methods: a table sorted by number.
#[derive(Clone, Debug, Default)]
pub struct MethodTable {
    bindings: Box<[Binding]>,
    /// Numbers in order, each with its index.
    order: Box<[(u64, u32)]>,
}

impl MethodTable {
    /// A table whose indices are those of `bindings`; of two with one number the first is found.
    #[must_use]
    pub fn new(bindings: &[Binding]) -> Self {
        let mut order: Vec<(u64, u32)> = (0_u32..)
            .zip(bindings)
            .map(|(index, binding)| (binding.method, index))
            .collect();
        order.sort_unstable();
        Self {
            bindings: bindings.into(),
            order: order.into(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bindings.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// The method of this index.
    #[must_use]
    pub fn binding(&self, index: u32) -> Option<&Binding> {
        self.bindings.get(index as usize)
    }

    /// The method of this number and its index.
    #[must_use]
    pub fn find(&self, method: u64) -> Option<(u32, &Binding)> {
        let at = self.order.partition_point(|(number, _)| *number < method);
        let (number, index) = *self.order.get(at)?;
        let binding = self.binding(index)?;
        (number == method).then_some((index, binding))
    }

    /// Compares what a client asks for with what there is.
    pub(crate) fn agree(&self, asked: &Asked) -> Result<(u32, Kind), Bound> {
        let Some((index, own)) = self.find(asked.method) else {
            return Err(Bound::Unknown);
        };
        if Kind::from_wire(asked.kind) != Some(own.kind) {
            return Err(Bound::WrongKind);
        }
        if asked.codec != own.codec {
            return Err(Bound::WrongCodec);
        }
        if asked.schema != 0 && own.schema != 0 && asked.schema != own.schema {
            return Err(Bound::WrongSchema);
        }
        Ok((index, own.kind))
    }
}
