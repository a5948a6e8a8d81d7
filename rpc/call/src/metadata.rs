//! Key-value pairs beside a message: a list of `{key u16, length u16, value, padding to 4}`, padded to 16.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

/// Blocks of metadata are multiples of this.
const BLOCK: usize = 16;
/// Values begin at multiples of this.
const ALIGN: usize = 4;
const FIELD_BYTES: usize = 4;

/// A key of the static table, or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u16);

impl Key {
    /// A status's text for people, UTF-8.
    pub const STATUS_MESSAGE: Self = Self(1);
    /// A status's details: a serialized `google.rpc.Status`.
    pub const STATUS_DETAILS: Self = Self(2);
    /// W3C trace context in binary: version, trace id, parent id, flags; 26 bytes.
    pub const TRACEPARENT: Self = Self(3);
    /// Credentials, as in HTTP.
    pub const AUTHORIZATION: Self = Self(4);
    /// What the client is.
    pub const USER_AGENT: Self = Self(5);
    /// For whom the call is made.
    pub const TENANT: Self = Self(6);
    /// After how many milliseconds trying again may help; u32.
    pub const RETRY_AFTER_MS: Self = Self(7);
    /// W3C trace state.
    pub const TRACESTATE: Self = Self(8);
    /// A number that stays the same over all tries of one request.
    pub const REQUEST_ID: Self = Self(9);
    /// The value begins with the length of a name (u8) and the name.
    const NAMED: Self = Self(0x100);

    /// Names of the static table, for those who speak in text.
    const NAMES: [(Self, &'static str); 9] = [
        (Self::STATUS_MESSAGE, "status-message"),
        (Self::STATUS_DETAILS, "status-details-bin"),
        (Self::TRACEPARENT, "traceparent-bin"),
        (Self::AUTHORIZATION, "authorization"),
        (Self::USER_AGENT, "user-agent"),
        (Self::TENANT, "tenant"),
        (Self::RETRY_AFTER_MS, "retry-after-ms-bin"),
        (Self::TRACESTATE, "tracestate"),
        (Self::REQUEST_ID, "request-id"),
    ];

    /// The key's number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u16 {
        self.0
    }

    /// The name of a key of the static table.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let known = Self::NAMES.iter().find(|(key, _)| *key == self)?;
        Some(known.1)
    }

    /// The key of the static table with this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let known = Self::NAMES.iter().find(|(_, known)| *known == name)?;
        Some(known.0)
    }
}

/// What is wrong with metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// A field reaches beyond the end, a name is missing or no UTF-8, or padding is not zero.
    Malformed,
    /// A name or a value is too long to be written: 255 bytes and 65,279 bytes are the most.
    TooLong,
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "metadata is malformed",
            Self::TooLong => "a name is longer than 255 bytes or a value longer than 65,279",
        })
    }
}

impl core::error::Error for MetadataError {}

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its key, if it is one of the static table (or of a later one).
    pub key: Option<Key>,
    /// Its name; empty for numbers of a later table.
    pub name: &'a str,
    /// Its value.
    pub value: &'a [u8],
}

/// Checked metadata: borrowed from a frame, or owned.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata<'a>(Cow<'a, [u8]>);

impl<'a> Metadata<'a> {
    /// No pairs.
    pub const EMPTY: Metadata<'static> = Metadata(Cow::Borrowed(&[]));

    /// Checks a block.
    ///
    /// # Errors
    /// A field of it is malformed.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MetadataError> {
        if !bytes.is_empty() {
            check(bytes)?;
        }
        Ok(Self(Cow::Borrowed(bytes)))
    }

    /// The block.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        Fields(&self.0).filter_map(Result::ok)
    }

    /// The first value of a key.
    #[must_use]
    pub fn value(&self, key: Key) -> Option<&[u8]> {
        self.iter()
            .find(|entry| entry.key == Some(key))
            .map(|entry| entry.value)
    }

    /// The first value of a name, whether it is in the static table or not.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&[u8]> {
        self.iter()
            .find(|entry| entry.name == name)
            .map(|entry| entry.value)
    }

    /// The same in memory of its own.
    #[must_use]
    pub fn into_owned(self) -> Metadata<'static> {
        Metadata(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_list()
            .entries(self.iter().map(|entry| entry.name))
            .finish()
    }
}

fn check(bytes: &[u8]) -> Result<(), MetadataError> {
    if !bytes.len().is_multiple_of(BLOCK) {
        return Err(MetadataError::Malformed);
    }
    Fields(bytes).try_for_each(|field| field.map(|_| ()))
}

/// The fields that are left.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Entry<'a>, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<FIELD_BYTES>()?;
        let [k0, k1, l0, l1] = *head;
        let (key, length) = (u16::from_le_bytes([k0, k1]), u16::from_le_bytes([l0, l1]));
        if key == 0 {
            // Padding: nothing but zeros follow, less than a block of them.
            let zeros = self.0.len() < BLOCK && self.0.iter().all(|byte| *byte == 0);
            self.0 = &[];
            return (!zeros).then_some(Err(MetadataError::Malformed));
        }
        let length = usize::from(length);
        let padded = length.next_multiple_of(ALIGN);
        let (Some(value), Some(rest)) = (rest.get(..length), rest.get(padded..)) else {
            self.0 = &[];
            return Some(Err(MetadataError::Malformed));
        };
        self.0 = rest;
        Some(entry(Key(key), value))
    }
}

fn entry(key: Key, value: &[u8]) -> Result<Entry<'_>, MetadataError> {
    if key != Key::NAMED {
        return Ok(Entry {
            key: Some(key),
            name: key.name().unwrap_or(""),
            value,
        });
    }
    let malformed = MetadataError::Malformed;
    let (length, rest) = value.split_first().ok_or(malformed)?;
    let (name, value) = rest
        .split_at_checked(usize::from(*length))
        .ok_or(malformed)?;
    let name = core::str::from_utf8(name).map_err(|_utf8| malformed)?;
    if name.is_empty() {
        return Err(malformed);
    }
    Ok(Entry {
        key: None,
        name,
        value,
    })
}

/// Metadata being written.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MetadataBuf(Vec<u8>);

impl From<Metadata<'_>> for MetadataBuf {
    /// A checked block, to be written on.
    fn from(block: Metadata<'_>) -> Self {
        Self(block.0.into_owned())
    }
}

impl MetadataBuf {
    /// No pairs.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a pair of the static table.
    ///
    /// # Errors
    /// The value is too long.
    pub fn set(&mut self, key: Key, value: &[u8]) -> Result<&mut Self, MetadataError> {
        self.field(key, &[], value)
    }

    /// Adds a pair with any name; those of the static table take its key.
    ///
    /// # Errors
    /// The name or the value is too long, or the name is empty.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, MetadataError> {
        if let Some(key) = Key::of_name(name) {
            return self.set(key, value);
        }
        let length = u8::try_from(name.len()).map_err(|_long| MetadataError::TooLong)?;
        if length == 0 {
            return Err(MetadataError::Malformed);
        }
        let start = self.open();
        self.0.extend_from_slice(&[0; FIELD_BYTES]);
        self.0.push(length);
        self.0.extend_from_slice(name.as_bytes());
        self.close(start, Key::NAMED, value)
    }

    fn field(&mut self, key: Key, front: &[u8], value: &[u8]) -> Result<&mut Self, MetadataError> {
        let start = self.open();
        self.0.extend_from_slice(&[0; FIELD_BYTES]);
        self.0.extend_from_slice(front);
        self.close(start, key, value)
    }

    /// Cuts the padding of the block; where the next field begins.
    fn open(&mut self) -> usize {
        let end = self.end();
        self.0.truncate(end);
        end
    }

    /// Where the fields end.
    fn end(&self) -> usize {
        let mut at = 0;
        while let Some(head) = self
            .0
            .get(at..)
            .and_then(<[u8]>::first_chunk::<FIELD_BYTES>)
        {
            let [k0, k1, l0, l1] = *head;
            if u16::from_le_bytes([k0, k1]) == 0 {
                break;
            }
            let length = usize::from(u16::from_le_bytes([l0, l1]));
            at += FIELD_BYTES + length.next_multiple_of(ALIGN);
        }
        at.min(self.0.len())
    }

    fn close(&mut self, start: usize, key: Key, value: &[u8]) -> Result<&mut Self, MetadataError> {
        self.0.extend_from_slice(value);
        let length = self.0.len() - start - FIELD_BYTES;
        let length = u16::try_from(length).ok().filter(|it| *it < 0xFF00);
        let Some(length) = length else {
            self.0.truncate(start);
            self.pad();
            return Err(MetadataError::TooLong);
        };
        let [k0, k1] = key.0.to_le_bytes();
        let [l0, l1] = length.to_le_bytes();
        if let Some(head) = self.0.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
            *head = [k0, k1, l0, l1];
        }
        self.pad();
        Ok(self)
    }

    fn pad(&mut self) {
        let whole = self.0.len().next_multiple_of(BLOCK);
        self.0.resize(whole, 0);
    }

    /// The block; empty or a multiple of 16 bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Forgets all pairs, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// As checked metadata.
    #[must_use]
    pub fn view(&self) -> Metadata<'_> {
        Metadata(Cow::Borrowed(&self.0))
    }
}

impl fmt::Debug for MetadataBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
