//! The two hellos: what this end offers, and what it makes of the peer's. `docs/wire/stream.md#handshake`
//!
//! The client speaks first. The server stays silent until it has seen a good preface, so that a stranger gets
//! no bytes; if only the versions differ it answers with its own hello and CLOSE, so that the peer learns
//! this end's range.

use core::time::Duration;

use super::keepalive::wire_ms;
use super::{Role, StreamConfig, Violation};
use crate::wire::{
    FRAME_ALIGN, HELLO_BYTES, HELLO_BYTES_MAX, Hello, MAGIC, PREFACE_BYTES, Preface, VERSION_MAX,
    VERSION_MIN,
};

/// What the peer said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Features that both ends offer.
    pub features: u64,
    /// The peer's random number of this connection.
    pub epoch: u64,
    /// Longest message body in bytes that the peer receives.
    pub message_bytes_max: u32,
    pub(crate) keepalive_interval_min_ms: u32,
    pub(crate) idle_timeout_ms: u32,
    /// The version that both ends speak now: the newest that both know.
    pub version: u16,
}

impl Peer {
    /// The peer wants no pings more often than this.
    #[must_use]
    pub fn keepalive_interval_min(&self) -> Duration {
        Duration::from_millis(u64::from(self.keepalive_interval_min_ms))
    }

    /// The peer closes a connection without messages after this time; `None`: never.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        (self.idle_timeout_ms != 0).then(|| Duration::from_millis(u64::from(self.idle_timeout_ms)))
    }
}

/// What this end says of itself; kept so that the hello can be written without the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    features_offered: u64,
    features_required: u64,
    epoch: u64,
    message_bytes_max: u32,
    keepalive_interval_min_ms: u32,
    idle_timeout_ms: u32,
}

impl Offer {
    pub(crate) fn new(config: &StreamConfig, seed: u64) -> Self {
        Self {
            features_offered: config.features_offered,
            features_required: config.features_required,
            epoch: mixed(seed),
            message_bytes_max: config.message_bytes_max,
            keepalive_interval_min_ms: wire_ms(config.keepalive_interval_min),
            idle_timeout_ms: config.idle_timeout.map_or(0, wire_ms),
        }
    }

    /// The hello that this end sends.
    pub(crate) fn hello(&self, role: Role) -> Hello {
        Hello {
            preface: Preface {
                magic: MAGIC,
                version_min: VERSION_MIN,
                version_max: VERSION_MAX,
                hello_bytes: const { HELLO_BYTES_U16 },
                role: role.to_wire(),
                reserved: 0,
            },
            features_offered: self.features_offered,
            features_required: self.features_required,
            message_bytes_max: self.message_bytes_max,
            keepalive_interval_min_ms: self.keepalive_interval_min_ms,
            idle_timeout_ms: self.idle_timeout_ms,
            reserved: 0,
            epoch: self.epoch,
            reserved_tail: 0,
        }
    }

    /// Compares the peer's hello with this end's.
    fn agree(&self, hello: &Hello, version: u16) -> Result<Peer, Violation> {
        let features = self.features_offered & hello.features_offered;
        let lacking = self.features_required & !features;
        if lacking != 0 {
            return Err(Violation::PeerLacksFeatures { missing: lacking });
        }
        let required = hello.features_required & !features;
        if required != 0 {
            return Err(Violation::PeerRequiresFeatures { missing: required });
        }
        Ok(Peer {
            features,
            epoch: hello.epoch,
            message_bytes_max: hello.message_bytes_max,
            keepalive_interval_min_ms: hello.keepalive_interval_min_ms,
            idle_timeout_ms: hello.idle_timeout_ms,
            version,
        })
    }
}

const HELLO_BYTES_U16: u16 = 64;
const _: () = assert!(HELLO_BYTES == 64);

/// How far the reading of the peer's preface has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Greeted {
    /// The bytes so far are right, but too few.
    Need(usize),
    /// The preface is that of a ringway peer.
    Preface(Preface),
}

/// Reads the preface. Wrong bytes are found as soon as they are there, not when there are enough of them.
pub(crate) fn read_preface(bytes: &[u8]) -> Result<Greeted, Violation> {
    let pairs = bytes.iter().zip(MAGIC).enumerate();
    for (at, (&found, expected)) in pairs {
        if found != expected {
            return Err(Violation::BadMagic { at, found });
        }
    }
    Ok(Preface::read(bytes).map_or(Greeted::Need(PREFACE_BYTES), Greeted::Preface))
}

/// What came of a hello behind a good preface.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HelloRead {
    /// More bytes are wanted, counted from the start of the preface.
    Need(usize),
    /// The two ends agree; the hello took so many bytes.
    Agreed(Peer, usize),
}

/// Reads the hello whose `preface` stands at the front of `bytes`.
pub(crate) fn read_hello(
    offer: &Offer,
    role: Role,
    preface: Preface,
    bytes: &[u8],
) -> Result<HelloRead, Violation> {
    let version = preface.version_max.min(VERSION_MAX);
    if version < preface.version_min.max(VERSION_MIN) {
        return Err(Violation::UnsupportedVersion {
            peer_min: preface.version_min,
            peer_max: preface.version_max,
        });
    }
    if preface.role != role.other().to_wire() {
        return Err(Violation::WrongRole { role: preface.role });
    }
    let hello_bytes = usize::from(preface.hello_bytes);
    let possible = (HELLO_BYTES..=HELLO_BYTES_MAX).contains(&hello_bytes);
    if !possible || !hello_bytes.is_multiple_of(FRAME_ALIGN) {
        return Err(Violation::HelloLength {
            hello_bytes: preface.hello_bytes,
        });
    }
    if bytes.len() < hello_bytes {
        return Ok(HelloRead::Need(hello_bytes));
    }
    let Some(hello) = Hello::read(bytes) else {
        return Ok(HelloRead::Need(hello_bytes));
    };
    offer
        .agree(&hello, version)
        .map(|peer| HelloRead::Agreed(peer, hello_bytes))
}

/// One step of SplitMix64: neighbouring seeds give unrelated numbers.
pub(crate) const fn mixed(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_hello(change: impl FnOnce(&mut Hello)) -> [u8; HELLO_BYTES] {
        let mut hello = Offer::new(&StreamConfig::default(), 1).hello(Role::Client);
        change(&mut hello);
        let mut bytes = [0; HELLO_BYTES];
        assert!(hello.write(&mut bytes));
        bytes
    }

    fn serve(config: &StreamConfig, bytes: &[u8]) -> Result<HelloRead, Violation> {
        let offer = Offer::new(config, 2);
        match read_preface(bytes)? {
            Greeted::Need(need) => Ok(HelloRead::Need(need)),
            Greeted::Preface(preface) => read_hello(&offer, Role::Server, preface, bytes),
        }
    }

    fn refused(config: &StreamConfig, change: impl FnOnce(&mut Hello)) -> Violation {
        serve(config, &client_hello(change)).unwrap_err()
    }

    // docs/wire/stream.md#handshake
    #[test]
    fn newest_common_version_is_spoken() {
        let bytes = client_hello(|hello| hello.preface.version_max = 9);
        let agreed = serve(&StreamConfig::default(), &bytes);
        assert!(matches!(
            agreed,
            Ok(HelloRead::Agreed(Peer { version: 1, .. }, 64))
        ));
    }

    #[test]
    fn foreign_versions_roles_and_lengths_are_told_apart() {
        let config = StreamConfig::default();
        let newer = refused(&config, |hello| {
            hello.preface.version_min = 2;
            hello.preface.version_max = 3;
            hello.preface.hello_bytes = 16;
        });
        assert_eq!(
            newer,
            Violation::UnsupportedVersion {
                peer_min: 2,
                peer_max: 3
            }
        );
        let older = refused(&config, |hello| {
            hello.preface.version_min = 0;
            hello.preface.version_max = 0;
        });
        assert_eq!(
            older,
            Violation::UnsupportedVersion {
                peer_min: 0,
                peer_max: 0
            }
        );
        let crossed = refused(&config, |hello| hello.preface.version_min = 2);
        assert_eq!(
            crossed,
            Violation::UnsupportedVersion {
                peer_min: 2,
                peer_max: 1
            }
        );
        for role in [0, 2, 3, 255] {
            let mirror = refused(&config, |hello| hello.preface.role = role);
            assert_eq!(mirror, Violation::WrongRole { role });
        }
        for hello_bytes in [0, 16, 48, 63, 65, 1025, 1040, u16::MAX] {
            let odd = refused(&config, |hello| hello.preface.hello_bytes = hello_bytes);
            assert_eq!(odd, Violation::HelloLength { hello_bytes });
        }
    }

    // docs/wire/stream.md#features
    #[test]
    fn features_must_be_offered_by_both_to_be_required_by_one() {
        let config = StreamConfig {
            features_offered: 7,
            features_required: 2,
            ..StreamConfig::default()
        };
        let lacks = refused(&config, |hello| hello.features_offered = 4);
        assert_eq!(lacks, Violation::PeerLacksFeatures { missing: 2 });
        let requires = refused(&config, |hello| {
            hello.features_offered = 10;
            hello.features_required = 8;
        });
        assert_eq!(requires, Violation::PeerRequiresFeatures { missing: 8 });
        let liar = refused(&config, |hello| {
            hello.features_offered = 2;
            hello.features_required = 4;
        });
        assert_eq!(liar, Violation::PeerRequiresFeatures { missing: 4 });
        let bytes = client_hello(|hello| {
            hello.features_offered = 14;
            hello.features_required = 4;
        });
        let agreed = serve(&config, &bytes);
        assert!(matches!(
            agreed,
            Ok(HelloRead::Agreed(Peer { features: 6, .. }, _))
        ));
    }

    #[test]
    fn neighbouring_seeds_give_unrelated_epochs() {
        let ones = (mixed(1) ^ mixed(2)).count_ones();
        assert!((16..48).contains(&ones), "{ones} bits differ");
    }
}
