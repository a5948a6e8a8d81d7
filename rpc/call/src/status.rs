//! How a call ended.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::metadata::{Key, Metadata};

/// The result of a call.
pub type Result<T> = core::result::Result<T, Status>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The status codes of gRPC, with its numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// All codes, in order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code of this number; unknown ones are [`Code::Unknown`].
            #[must_use]
            #[inline]
            pub const fn from_wire(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)*
                    _ => Self::Unknown,
                }
            }

            /// The name that gRPC gives it, in capitals.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// It went well.
    Ok = 0, "OK";
    /// The caller gave it up.
    Cancelled = 1, "CANCELLED";
    /// Nothing more is known.
    Unknown = 2, "UNKNOWN";
    /// The request can't be right, whatever the state of the system.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// Time ran out; it may have been done all the same.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// What was asked for is not there.
    NotFound = 5, "NOT_FOUND";
    /// What was to be made is there already.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// The caller is known and may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// A limit or a quota is reached.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// The system is not in a state for this.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// Someone else was faster; begin again.
    Aborted = 10, "ABORTED";
    /// Beyond the valid range.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// There is no such method.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// Something is broken.
    Internal = 13, "INTERNAL";
    /// Not now; trying again may help.
    Unavailable = 14, "UNAVAILABLE";
    /// Data is lost or corrupt.
    DataLoss = 15, "DATA_LOSS";
    /// The caller is not known.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl Code {
    /// Its number.
    #[must_use]
    #[inline]
    pub const fn to_wire(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a call ended: a code, a text for people, details for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What kind of end.
    pub code: Code,
    /// A number whose meaning belongs to the service; 0: none.
    pub app_code: u16,
    /// The call was surely not executed: trying again is safe, whatever the method does.
    pub not_started: bool,
    /// For people; empty if there is nothing to say.
    pub message: Cow<'static, str>,
    /// A serialized `google.rpc.Status`, if there are details.
    pub details: Option<Box<[u8]>>,
}

impl Status {
    /// It went well.
    pub const OK: Self = Self {
        code: Code::Ok,
        app_code: 0,
        not_started: false,
        message: Cow::Borrowed(""),
        details: None,
    };

    /// A status with a text for people.
    #[must_use]
    pub fn new(code: Code, message: &str) -> Self {
        Self {
            code,
            message: Cow::Owned(String::from(message)),
            ..Self::OK
        }
    }

    /// Like [`new`](Self::new), without an allocation.
    #[must_use]
    pub const fn of(code: Code, message: &'static str) -> Self {
        Self {
            code,
            message: Cow::Borrowed(message),
            ..Self::OK
        }
    }

    /// The same, known to be of a call that was not executed.
    #[must_use]
    pub fn not_started(mut self) -> Self {
        self.not_started = true;
        self
    }

    /// The same with a number of the service's own.
    #[must_use]
    pub fn with_app_code(mut self, app_code: u16) -> Self {
        self.app_code = app_code;
        self
    }

    /// The same with a serialized `google.rpc.Status`.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<Box<[u8]>>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// Whether it went well.
    #[must_use]
    #[inline]
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    #[inline]
    pub(crate) fn arg(&self) -> u32 {
        u32::from(self.code.to_wire()) | u32::from(self.app_code) << 16
    }

    /// Whether its text or details need metadata.
    #[inline]
    pub(crate) fn has_text(&self) -> bool {
        !self.message.is_empty() || self.details.is_some()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if self.app_code != 0 {
            write!(f, " (application code {})", self.app_code)?;
        }
        if self.not_started {
            f.write_str(" (not started)")?;
        }
        Ok(())
    }
}

impl core::error::Error for Status {}

/// A status as it stands in its frame, or as this side made it up.
#[derive(Clone, Debug)]
pub struct StatusView<'a> {
    /// What kind of end.
    pub code: Code,
    /// The service's own number.
    pub app_code: u16,
    /// The call was surely not executed.
    pub not_started: bool,
    /// A text that this side made up; else it stands in the metadata.
    pub(crate) text: &'static str,
    pub(crate) metadata: Metadata<'a>,
}

impl StatusView<'_> {
    /// Whether it went well.
    #[must_use]
    #[inline]
    pub fn is_ok(&self) -> bool {
        self.code == Code::Ok
    }

    /// The status in memory of its own.
    #[must_use]
    #[cold]
    pub fn to_status(&self) -> Status {
        let text = self.metadata.value(Key::STATUS_MESSAGE);
        let message = match text.map(String::from_utf8_lossy) {
            Some(text) => Cow::Owned(text.into_owned()),
            None => Cow::Borrowed(self.text),
        };
        Status {
            code: self.code,
            app_code: self.app_code,
            not_started: self.not_started,
            message,
            details: self.metadata.value(Key::STATUS_DETAILS).map(Box::from),
        }
    }
}

/// A status that this side makes up.
pub(crate) const fn local(
    code: Code,
    text: &'static str,
    not_started: bool,
) -> StatusView<'static> {
    StatusView {
        code,
        app_code: 0,
        not_started,
        text,
        metadata: Metadata::EMPTY,
    }
}
