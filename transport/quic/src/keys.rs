//! Connection ids, and the secrets behind resets and address tokens.
//!
//! Everything is made of one seed: the same seed gives the same ids, so that a run can be repeated.

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use ring::{hkdf, hmac};

/// Length of our connection ids: one byte of shard, seven that nobody can guess.
const ID_BYTES: usize = 8;

/// The secrets of one endpoint.
pub(crate) struct Keys {
    secret: hmac::Key,
}

impl Keys {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self {
            secret: hmac::Key::new(hmac::HMAC_SHA256, seed),
        }
    }

    /// A key of its own for each `purpose`.
    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut out = [0; 32];
        let tag = hmac::sign(&self.secret, purpose.as_bytes());
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        out
    }

    /// Seed of quinn-proto's own generator: packet numbers to skip, challenges, padding.
    pub(crate) fn endpoint_seed(&self) -> [u8; 32] {
        self.derive("endpoint")
    }

    /// Signs the tokens by which a peer knows that its session is forgotten.
    pub(crate) fn reset(&self) -> Arc<hmac::Key> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.derive("reset")))
    }

    /// Seals the tokens that prove an address.
    pub(crate) fn token(&self) -> Arc<hkdf::Prk> {
        Arc::new(hkdf::Prk::new_less_safe(
            hkdf::HKDF_SHA256,
            &self.derive("token"),
        ))
    }

    /// Ids by which peers address this endpoint; the first byte is `shard`.
    pub(crate) fn ids(&self, shard: u8) -> Ids {
        Ids {
            key: hmac::Key::new(hmac::HMAC_SHA256, &self.derive("ids")),
            shard: Some(shard),
            count: 0,
        }
    }

    /// The throw-away ids with which a client begins.
    pub(crate) fn first_ids(&self) -> Ids {
        Ids {
            key: hmac::Key::new(hmac::HMAC_SHA256, &self.derive("first ids")),
            shard: None,
            count: 0,
        }
    }
}

/// Makes connection ids: a keyed hash of a counter, so that nobody outside can link or guess them.
#[derive(Clone)]
pub(crate) struct Ids {
    key: hmac::Key,
    shard: Option<u8>,
    count: u64,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.count = self.count.wrapping_add(1);
        let tag = hmac::sign(&self.key, &self.count.to_le_bytes());
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        if let (Some(first), Some(shard)) = (id.first_mut(), self.shard) {
            *first = shard;
        }
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match self.shard {
            Some(shard) if id.first() != Some(&shard) => Err(InvalidCid),
            _ => Ok(()),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_their_shard_and_repeat_with_the_seed() {
        let keys = Keys::new(&[7; 32]);
        let (mut ids, mut again) = (keys.ids(3), Keys::new(&[7; 32]).ids(3));
        let first = ids.generate_cid();
        assert_eq!(first, again.generate_cid());
        assert_eq!(first.first(), Some(&3));
        assert_ne!(first, ids.generate_cid());
        assert!(ids.validate(&first).is_ok());
        assert!(keys.ids(4).validate(&first).is_err());
        assert_ne!(first, Keys::new(&[8; 32]).ids(3).generate_cid());
    }
}
