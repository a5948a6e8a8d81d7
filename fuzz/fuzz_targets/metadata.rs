//! Arbitrary bytes as metadata: what is accepted can be read, written again, and read as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_call::{Metadata, MetadataBuf};

fuzz_target!(|bytes: &[u8]| {
    let Ok(metadata) = Metadata::parse(bytes) else {
        return;
    };
    let mut again = MetadataBuf::new();
    for entry in metadata.iter() {
        let added = match entry.key {
            Some(key) => again.set(key, entry.value),
            None => again.add(entry.name, entry.value),
        };
        if added.is_err() {
            // Longer than this side writes.
            return;
        }
    }
    let view = again.view();
    assert!(Metadata::parse(view.bytes()).is_ok());
    // A name of the static table is written as its key; nothing else changes.
    for (one, other) in metadata.iter().zip(view.iter()) {
        assert_eq!((one.name, one.value), (other.name, other.value));
    }
    assert_eq!(metadata.iter().count(), view.iter().count());
});
