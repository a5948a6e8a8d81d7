//! Peers that want a connection: taken, asked to prove their address, refused, or not answered.

use quinn_proto::Incoming;
use ringway_proto::Role;

use super::QuicEndpoint;
use crate::config::AddressProof;

impl QuicEndpoint {
    /// Decides at once, so that nothing of a stranger waits anywhere.
    pub(super) fn on_incoming(&mut self, incoming: Incoming) {
        let known = self.open.saturating_add(self.half_open);
        if self.refusing || known >= self.config.sessions_max || self.sessions.is_full() {
            self.refuse(incoming);
            return;
        }
        let proof = match self.config.address_proof {
            AddressProof::Never => false,
            AddressProof::Above(count) => self.half_open >= count,
            AddressProof::Always => true,
        };
        if proof && incoming.may_retry() && !incoming.remote_address_validated() {
            let mut bytes = Vec::new();
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut bytes) {
                self.responses.push(&transmit, bytes);
            }
            return;
        }
        // The peer sends its first packet again; perhaps there is room by then.
        if self.half_open >= self.config.handshakes_max {
            self.endpoint.ignore(incoming);
            return;
        }
        let Some(window) = self
            .pools
            .budget()
            .charge(self.config.window_bytes as usize)
        else {
            self.refuse(incoming);
            return;
        };
        let mut bytes = Vec::new();
        let now = self.base.foreign(self.now);
        match self.endpoint.accept(incoming, now, &mut bytes, None) {
            Ok(made) => {
                self.half_open = self.half_open.saturating_add(1);
                if let Some(id) = self.insert(made, Role::Server, Some(window)) {
                    self.settle(id);
                }
            }
            Err(refused) => {
                if let Some(transmit) = refused.response {
                    self.responses.push(&transmit, bytes);
                }
            }
        }
    }

    fn refuse(&mut self, incoming: Incoming) {
        let mut bytes = Vec::new();
        let transmit = self.endpoint.refuse(incoming, &mut bytes);
        self.responses.push(&transmit, bytes);
    }
}
