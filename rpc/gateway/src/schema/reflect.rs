//! Definitions from a server's own words.

use core::time::Duration;

use prost_reflect::DescriptorPool;
use ringway_rpc::{CallOptions, Channel, Reflection, Status};

use super::{Schema, google};
use crate::error::SchemaError;

impl Schema {
    /// Asks a server that has reflection; blocks until it has answered, or for `timeout`.
    ///
    /// # Errors
    /// [`SchemaError::Reflection`]: the server can't be reached or has no reflection; others: what it says is
    /// unusable.
    pub fn from_server(channel: &Channel, timeout: Duration) -> Result<Self, SchemaError> {
        let options = CallOptions {
            wait_for_ready: true,
            ..CallOptions::timeout(timeout)
        };
        let mut server = Reflection::open(channel, &options);
        let set = everything(&mut server).map_err(SchemaError::Reflection)?;
        Self::of_sets(&[&set])
    }
}

fn everything(server: &mut Reflection) -> Result<Vec<u8>, Status> {
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
