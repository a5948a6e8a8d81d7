//! Definitions from a server's own words.

use core::time::Duration;

use prost_reflect::DescriptorPool;
use ringway_rpc::{CallOptions, Channel, Code, Reflection, Status};

use super::{Schema, google};
use crate::error::SchemaError;

/// How long it may take to learn why a server could not be reached in time.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);

impl Schema {
    /// Asks a server that has reflection; blocks until it has answered, or for `timeout` and one second.
    ///
    /// # Errors
    /// [`SchemaError::Reflection`]: the server can't be reached or has no reflection; others: what it says is
    /// unusable.
    pub fn from_server(channel: &Channel, timeout: Duration) -> Result<Self, SchemaError> {
        let options = CallOptions {
            wait_for_ready: true,
            ..CallOptions::timeout(timeout)
        };
        let set = match everything(channel, &options) {
            // Who waits is not told for what: the same without waiting is.
            Err(late) if late.code == Code::DeadlineExceeded => {
                let told = everything(channel, &CallOptions::timeout(REASON_TIMEOUT));
                told.map_err(|status| match status.code {
                    Code::DeadlineExceeded => late,
                    _ => status,
                })
            }
            told => told,
        };
        Self::of_sets(&[&set.map_err(SchemaError::Reflection)?])
    }
}

fn everything(channel: &Channel, options: &CallOptions<'_>) -> Result<Vec<u8>, Status> {
    let mut server = Reflection::open(channel, options);
    for service in server.services()? {
        // Services without descriptors, as those of plain structs, are not ours to serve.
        let _is_described = server.learn(&service)?;
    }
    server.descriptors(|name| {
        let known = google().get_file_by_name(name);
        let known = known.or_else(|| DescriptorPool::global().get_file_by_name(name));
        known.map(|file| file.encode_to_vec())
    })
}
