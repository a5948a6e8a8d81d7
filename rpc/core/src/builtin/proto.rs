//! The few forms of protobuf that the built-in services and their descriptors need.

/// A field as it stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => core::str::from_utf8(bytes).ok(),
            Self::Number(_) => None,
        }
    }
}

/// The fields of a message; ends at the first one that is malformed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0;
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Number(u64::from_le_bytes(*take(&mut rest, 8)?.first_chunk()?)),
            2 => {
                let len = usize::try_from(varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, len)?)
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(
                *take(&mut rest, 4)?.first_chunk()?,
            ))),
            _ => return None,
        };
        // What is malformed is left over.
        self.0 = rest;
        Some((tag >> 3, value))
    }
}

/// Whether bytes are fields and nothing else. What stands in those is not looked at.
pub(crate) fn is_whole(message: &[u8]) -> bool {
    let mut fields = Fields(message);
    fields.by_ref().for_each(drop);
    fields.0.is_empty()
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A message being written.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// A number; 0 is left out, as proto3 does.
    pub(crate) fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }

    /// Bytes, a text or a message.
    pub(crate) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A list of numbers, packed.
    pub(crate) fn numbers(self, field: u64, values: impl Iterator<Item = u64>) -> Self {
        let mut packed = Self::default();
        values.for_each(|value| packed.varint(value));
        self.message(field, packed)
    }

    /// A text; empty ones are left out.
    pub(crate) fn text(self, field: u64, value: &str) -> Self {
        if value.is_empty() {
            self
        } else {
            self.bytes(field, value.as_bytes())
        }
    }

    /// A message in a field.
    pub(crate) fn message(self, field: u64, inner: Self) -> Self {
        self.bytes(field, &inner.0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7F) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Writer::default().number(1, 300);
        let bytes = Writer::default()
            .number(1, u64::MAX)
            .text(2, "name")
            .message(3, inner)
            .0;
        let fields: Vec<_> = Fields(&bytes).collect();
        assert_eq!(fields[0], (1, Value::Number(u64::MAX)));
        assert_eq!(fields[1].1.text(), Some("name"));
        assert_eq!(fields[2], (3, Value::Bytes(&[8, 0xAC, 2])));
        assert!(is_whole(&bytes) && is_whole(&[]));
    }

    #[test]
    fn malformed_bytes_end_the_fields() {
        for bytes in [&[0x0A, 5, 1][..], &[0x80; 11], &[0x0B], &[0x09, 1], &[8]] {
            assert_eq!(Fields(bytes).next(), None, "{bytes:?}");
            assert!(!is_whole(bytes), "{bytes:?}");
        }
    }
}
