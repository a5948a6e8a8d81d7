//! Congestion control: quinn-proto's CUBIC, with a count of what was acknowledged.
//!
//! quinn-proto tells nobody which of its packets arrived. The one part of a connection that it tells, and that is ours to
//! choose, is the congestion controller; so a controller stands around CUBIC and counts.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::congestion::{
    Controller, ControllerFactory, ControllerMetrics, Cubic, CubicConfig,
};
use quinn_proto::{Connection, RttEstimator};

/// Makes controllers that count.
#[derive(Debug, Default)]
pub(crate) struct Factory(Arc<CubicConfig>);

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Counting {
            cubic: Cubic::new(Arc::clone(&self.0), now, mtu),
            acked_bytes: 0,
        })
    }
}

#[derive(Clone, Debug)]
struct Counting {
    cubic: Cubic,
    acked_bytes: u64,
}

/// Bytes of packets that the peer has acknowledged on the present path, each packet once. Costs an allocation.
pub(crate) fn acked_bytes(conn: &Connection) -> u64 {
    let state = conn.congestion_state().clone_box().into_any();
    let counting = state.downcast::<Counting>();
    counting.map_or(0, |counting| counting.acked_bytes)
}

impl Controller for Counting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.acked_bytes = self.acked_bytes.wrapping_add(bytes);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        let largest = largest_packet_num_acked;
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        let persistent = is_persistent_congestion;
        self.cubic
            .on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
