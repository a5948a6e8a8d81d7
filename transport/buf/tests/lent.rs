//! Memory of somebody else, shared like a pool's.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use ringway_buf::{Owner, Slice};

#[derive(Debug, Default)]
struct Told(Mutex<Vec<u64>>);

impl Owner for Told {
    fn free(&self, token: u64) {
        self.0.lock().unwrap().push(token);
    }
}

#[test]
fn an_owner_is_told_once_and_only_after_the_last_handle() {
    let told = Arc::new(Told::default());
    let memory = b"lent to others".to_vec();
    let data = NonNull::from(&memory[..]).cast();
    let owner = Arc::clone(&told) as Arc<dyn Owner>;
    // SAFETY: the vector outlives all handles and is not written.
    let slice = unsafe { Slice::lent(data, 14, owner, 7) };
    let part = slice.subslice(8..14).unwrap();
    assert_eq!((slice.bytes(), part.bytes()), (&memory[..], &b"others"[..]));
    let slice = slice.try_unfreeze().unwrap_err();
    drop(part);
    let slice = slice
        .try_unfreeze()
        .expect_err("lent memory is never written");
    assert!(told.0.lock().unwrap().is_empty());
    std::thread::spawn(move || drop(slice)).join().unwrap();
    assert_eq!(*told.0.lock().unwrap(), [7]);
    assert_eq!(Arc::strong_count(&told), 1, "the owner is let go");
}
