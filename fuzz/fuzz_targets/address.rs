//! Addresses as users write them: no text panics, and what was read prints to something that reads the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway_driver::Address;

/// `sun_path` less its terminating NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

fuzz_target!(|text: &str| {
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(
                printed.parse(),
                Ok(address.clone()),
                "{text:?} prints {printed:?}"
            );
            match &address {
                Address::Unix(path) => {
                    assert!((1..=UNIX_PATH_BYTES_MAX).contains(&path.as_os_str().len()));
                }
                Address::Abstract(name) => {
                    assert!((1..=UNIX_PATH_BYTES_MAX).contains(&name.len()));
                }
                other => assert!(other.socket_addr().is_some()),
            }
        }
        Err(error) => assert!(error.to_string().contains(text), "the text is named"),
    }
});
