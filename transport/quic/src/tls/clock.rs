//! The date against which certificates are checked.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

/// Where the date comes from.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn TimeProvider>);

impl Clock {
    pub(crate) fn system() -> Self {
        Self(Arc::new(DefaultTimeProvider))
    }

    pub(crate) fn new(since_1970: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(Given(since_1970)))
    }

    pub(crate) fn provider(&self) -> Arc<dyn TimeProvider> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

struct Given<F>(F);

impl<F> fmt::Debug for Given<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Given")
    }
}

impl<F: Fn() -> Duration + Send + Sync> TimeProvider for Given<F> {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch((self.0)()))
    }
}

/// The same date for quinn-proto, which stamps its tokens with it.
#[derive(Debug)]
pub(crate) struct TokenClock(pub(crate) Arc<dyn TimeProvider>);

impl quinn_proto::TimeSource for TokenClock {
    fn now(&self) -> SystemTime {
        let since = self.0.current_time().map_or(0, |time| time.as_secs());
        let epoch = SystemTime::UNIX_EPOCH;
        epoch
            .checked_add(Duration::from_secs(since))
            .unwrap_or(epoch)
    }
}
