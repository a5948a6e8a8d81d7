//! What an exported function returns, and how panics end.

use std::borrow::Cow;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ringway::rpc::{Code, NotTaken, Status};
use ringway::{ConnectRefusal, OpenError, SendError};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// A status of the C API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub(crate) enum Rw { $($(#[$doc])* $name = $number,)* }

        /// Its name in `ringway.h`, NUL-terminated.
        pub(crate) fn name_of(code: i32) -> Option<&'static [u8]> {
            match code {
                $($number => Some(concat!("RW_", stringify!($name), "\0").as_bytes()),)*
                _ => None,
            }
        }
    };
}

// The names are those of the header, which C programmers grep for.
#[expect(
    non_camel_case_types,
    clippy::upper_case_acronyms,
    reason = "the header's names"
)]
mod names {
    codes! {
        OK = 0,
        AGAIN = 1,
        E_INVALID = -1,
        E_STALE = -2,
        E_FULL = -3,
        E_TOO_LONG = -4,
        E_NOT_OPEN = -5,
        E_CLOSED = -6,
        E_ADDRESS = -7,
        E_SYSTEM = -8,
        E_LIMIT = -9,
        E_BUSY = -10,
        E_THREAD = -11,
        E_FORK = -12,
        E_STATE = -13,
        E_PANIC = -14,
        E_UNAVAILABLE = -15,
        E_REFUSED = -16,
    }
}
pub(crate) use names::{Rw, name_of};

/// Why a function failed.
#[derive(Debug)]
pub(crate) struct Fail {
    pub(crate) code: Rw,
    pub(crate) text: Cow<'static, str>,
}

impl Fail {
    #[cold]
    pub(crate) fn new(code: Rw, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// A NULL pointer, a wrong size, a value out of its range.
    #[cold]
    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Rw::E_INVALID, text)
    }

    #[cold]
    pub(crate) fn stale(what: &'static str) -> Self {
        Self::new(
            Rw::E_STALE,
            format!("this {what} is over, was released, or belongs to another engine"),
        )
    }
}

impl From<SendError> for Fail {
    #[cold]
    fn from(error: SendError) -> Self {
        if error == SendError::NoPeer {
            let text = "a udp:// socket of rw_listen only receives; send on one of rw_connect";
            return Self::invalid(text);
        }
        let code = match error {
            SendError::Full => Rw::E_FULL,
            SendError::TooLong { .. } => Rw::E_TOO_LONG,
            SendError::NotOpen => Rw::E_NOT_OPEN,
            SendError::Closed => Rw::E_CLOSED,
            _ => Rw::E_INVALID,
        };
        Self::new(code, error.to_string())
    }
}

impl From<OpenError> for Fail {
    #[cold]
    fn from(error: OpenError) -> Self {
        // What these say helps who configures an engine in Rust.
        let text = match error {
            OpenError::NotConfigured { .. } => {
                "quic:// has no settings in C yet; take tcp:// or unix://".into()
            }
            OpenError::Session(ConnectRefusal::PublicAddress) => {
                let text = "the address is public, and rudp:// neither encrypts nor authenticates; take tcp:// in a tunnel of yours";
                return Self::new(Rw::E_REFUSED, text);
            }
            _ => error.to_string(),
        };
        let code = match error {
            OpenError::Address(_) => Rw::E_ADDRESS,
            OpenError::TooMany { .. } => Rw::E_LIMIT,
            OpenError::Draining | OpenError::NotConfigured { .. } => Rw::E_STATE,
            _ => Rw::E_SYSTEM,
        };
        Self::new(code, text)
    }
}

impl From<Status> for Fail {
    #[cold]
    fn from(status: Status) -> Self {
        let code = match status.code {
            // It was past before the call began.
            Code::Unavailable | Code::DeadlineExceeded => Rw::E_UNAVAILABLE,
            Code::ResourceExhausted => Rw::E_FULL,
            Code::Cancelled => Rw::E_STALE,
            _ => Rw::E_REFUSED,
        };
        Self::new(code, format!("{}: {}", status.code.name(), status.message))
    }
}

impl From<NotTaken> for Fail {
    #[cold]
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::TooLong(status) => Self {
                code: Rw::E_TOO_LONG,
                ..Self::from(status)
            },
            NotTaken::Other(status) => status.into(),
        }
    }
}

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The text of this thread's last failure.
pub(crate) fn with_last<T>(look: impl FnOnce(&str) -> T) -> Option<T> {
    LAST.try_with(|last| look(&last.borrow())).ok()
}

#[cold]
fn failed(fail: &Fail) -> i32 {
    // Without the text, if the thread is ending: its locals may be gone.
    let _gone = LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        last.clear();
        last.push_str(&fail.text);
    });
    fail.code as i32
}

/// Runs the body of an exported function; a panic ends here.
#[inline]
pub(crate) fn guard(body: impl FnOnce() -> Result<Rw, Fail>) -> i32 {
    // A panicking body leaves an engine behind that refuses from then on (`registry::enter`), or nothing at all.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(code)) => code as i32,
        Ok(Err(fail)) => failed(&fail),
        Err(_panic) => failed(&Fail::new(
            Rw::E_PANIC,
            "a bug in ringway: it panicked; the message is on standard error, the engine takes no more calls",
        )),
    }
}
