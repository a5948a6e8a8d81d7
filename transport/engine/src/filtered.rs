//! The way up through a stream filter: from sealed records to plain frames.
//!
//! Stands between `recv.rs`, which calls it when a connection has a filter, and `stage.rs`, which holds the
//! filter. Plaintext is gathered so that a message is contiguous; a large one goes into a place of its own.

use ringway_buf::{RecvBuffer, copy_counted};
use ringway_driver::Want;

use crate::hub::Hub;
use crate::recv::{deliver_large, parse};
use crate::stage::Opened;
use crate::{CloseReason, ConnectionId, Handler};

/// Bytes that pass a stream filter first.
pub(crate) fn filtered<H: Handler>(
    hub: &mut Hub,
    handler: &mut H,
    id: ConnectionId,
    buffer: &mut RecvBuffer,
) -> Want {
    loop {
        let (now, pools) = (hub.now, hub.pools.clone());
        let Some(connection) = hub.connections.get_mut(id.0).filter(|it| it.is_live()) else {
            buffer.consume(buffer.len());
            return Want::Nothing;
        };
        let Some(filtered) = &mut connection.filter else {
            return Want::Nothing;
        };
        if connection.pauses.any() {
            return Want::Nothing;
        }
        if buffer.is_empty() {
            return Want::More(1);
        }
        match filtered.stage.open(buffer, filtered.want, &pools, now) {
            Ok(Opened::Need(bytes)) => {
                hub.mark_dirty(id);
                return Want::More(bytes);
            }
            Ok(Opened::Starved) => {
                hub.starve(id);
                return Want::Nothing;
            }
            Ok(Opened::Plain) => {
                hub.mark_dirty(id);
                if !plaintext(hub, handler, id) {
                    return Want::Nothing;
                }
            }
            Err(error) => {
                hub.close(id, None, CloseReason::Filter(error));
                buffer.consume(buffer.len());
                return Want::Nothing;
            }
        }
    }
}

/// Parses what the filter opened; also when a pause ends. Returns whether receiving may go on.
pub(crate) fn plaintext<H: Handler>(hub: &mut Hub, handler: &mut H, id: ConnectionId) -> bool {
    loop {
        let Some(connection) = hub.connections.get_mut(id.0) else {
            return false;
        };
        let Some(filtered) = &mut connection.filter else {
            return false;
        };
        let Some(mut plain) = filtered.stage.take() else {
            return true;
        };
        if let Some((place, remaining)) = &mut filtered.gather {
            let room = place.spare_mut().get_mut(..*remaining).unwrap_or_default();
            let copied = copy_counted(room, plain.bytes());
            place.filled(copied);
            plain.consume(copied);
            *remaining -= copied;
            if *remaining > 0 {
                return true;
            }
            let whole = filtered.gather.take();
            filtered.stage.keep(plain);
            connection.large_until = None;
            if let (Some((place, _)), Some(header)) = (whole, connection.large.take()) {
                deliver_large(hub, handler, id, header, place);
            }
            continue;
        }
        let want = parse(hub, handler, id, &mut plain, false);
        let Some(connection) = hub.connections.get_mut(id.0) else {
            return false;
        };
        let Some(filtered) = &mut connection.filter else {
            return false;
        };
        filtered.stage.keep(plain);
        match want {
            Want::More(bytes) if filtered.gather.is_none() => {
                filtered.want = bytes;
                return true;
            }
            Want::More(_) => {}
            Want::Nothing | Want::Large { .. } => return false,
        }
    }
}
