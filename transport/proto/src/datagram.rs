//! Raw datagrams: a message is a datagram, without header, order or repair.
//!
//! Nothing to parse and no state: the only rule is how long a message may be. The engine asks
//! [`payload_bytes_max`] once per destination and [`check`] before each send; a longer message is handed back
//! to its sender, because IP fragments would multiply its loss.

use core::fmt;

/// Longest UDP payload over IPv4: 65,535 less 20 bytes of IP header and 8 of UDP header.
pub const PAYLOAD_BYTES_MAX_V4: usize = 65_507;
/// Longest UDP payload over IPv6 without jumbograms: 65,535 less 8 bytes of UDP header (the length field of
/// IPv6 does not count its own 40 bytes).
pub const PAYLOAD_BYTES_MAX_V6: usize = 65_527;

/// Bytes of IPv4 and UDP header, without options.
const OVERHEAD_V4: usize = 28;
/// Bytes of IPv6 and UDP header, without extensions.
const OVERHEAD_V6: usize = 48;

/// Longest message that fits one unfragmented packet on a path with this MTU, in bytes.
///
/// Zero when the MTU has no room for the headers. `path_mtu` counts the IP header, as the kernel's does.
///
/// ```
/// use ringway_proto::datagram::payload_bytes_max;
/// assert_eq!(payload_bytes_max(false, 1_500), 1_472);
/// assert_eq!(payload_bytes_max(true, 1_500), 1_452);
/// assert_eq!(payload_bytes_max(false, usize::MAX), 65_507);
/// ```
#[must_use]
pub const fn payload_bytes_max(ip_is_v6: bool, path_mtu: usize) -> usize {
    let (overhead, max) = if ip_is_v6 {
        (OVERHEAD_V6, PAYLOAD_BYTES_MAX_V6)
    } else {
        (OVERHEAD_V4, PAYLOAD_BYTES_MAX_V4)
    };
    let room = path_mtu.saturating_sub(overhead);
    if room < max { room } else { max }
}

/// Checks a message of `len` bytes against the longest that may be sent.
///
/// # Errors
/// [`TooLong`] when it is longer than `max`.
pub const fn check(len: usize, max: usize) -> Result<(), TooLong> {
    if len <= max {
        Ok(())
    } else {
        Err(TooLong { len, max })
    }
}

/// A message that fits no datagram on its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Bytes of the message.
    pub len: usize,
    /// Bytes that fit.
    pub max: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a message of {} bytes fits no datagram of {} bytes on this path; split it or use a stream",
            self.len, self.max
        )
    }
}

impl core::error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_length_field_both_limit() {
        let table = [
            (false, 0, 0),
            (false, 28, 0),
            (false, 29, 1),
            (false, 65_535, 65_507),
            (false, 65_536, 65_507),
            (true, 48, 0),
            (true, 1_280, 1_232),
            (true, 65_575, 65_527),
            (true, 65_576, 65_527),
        ];
        for (v6, mtu, expected) in table {
            assert_eq!(payload_bytes_max(v6, mtu), expected, "v6 {v6} mtu {mtu}");
        }
    }

    #[test]
    fn one_byte_too_many_is_refused() {
        assert_eq!(check(1_472, 1_472), Ok(()));
        assert_eq!(
            check(1_473, 1_472),
            Err(TooLong {
                len: 1_473,
                max: 1_472
            })
        );
    }
}
