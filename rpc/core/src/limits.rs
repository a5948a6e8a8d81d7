//! Everything that a server bounds beyond what the call machine bounds by itself.

use core::time::Duration;

use ringway_call::CallConfig;

use crate::BuildError;

/// Limits of one server, per engine thread unless said otherwise. `Default` is safe; fields are public, checked when
/// the server is built.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Per connection: open calls, message, metadata and inline sizes, stream credit. They are told to clients.
    pub call: CallConfig,
    /// Calls that are open beyond their first callback (futures, deferred, on workers), all connections together.
    /// Full: RESOURCE_EXHAUSTED, surely not started. Default 16,384, at least 1, at most 1,048,576.
    pub calls_max: usize,
    /// Jobs that wait for a worker, all engine threads together. Full: RESOURCE_EXHAUSTED, surely not started.
    /// Default 1,024, at least 1.
    pub jobs_max: usize,
    /// Longest time a call may wait before its handler starts: for a worker, or for its place in an engine's turn
    /// that takes too long. Longer: RESOURCE_EXHAUSTED, surely not started; its client has most likely given up, and
    /// the time is better spent on the others. Default 1 s, at least 1 ms.
    pub queue_time_max: Duration,
    /// A connection is drained after this time, less up to a tenth, so that clients spread anew over servers.
    /// `None`: never. Default `None`, at least 1 s.
    pub connection_age_max: Option<Duration>,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            call: CallConfig::default(),
            calls_max: 16 * 1024,
            jobs_max: 1024,
            queue_time_max: Duration::from_secs(1),
            connection_age_max: None,
        }
    }
}

impl ServerLimits {
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        self.call.check().map_err(|error| BuildError::Limit {
            field: error.field,
            min: error.min.into(),
            max: error.max.into(),
        })?;
        let count = |field, given: usize, max: usize| {
            if (1..=max).contains(&given) {
                Ok(())
            } else {
                let (min, max) = (1, max as u64);
                Err(BuildError::Limit { field, min, max })
            }
        };
        count("calls_max", self.calls_max, 1 << 20)?;
        count("jobs_max", self.jobs_max, 1 << 20)?;
        let day = Duration::from_hours(24);
        let time = |field, given: Duration, min: Duration, max: Duration| {
            if (min..=max).contains(&given) {
                Ok(())
            } else {
                let (min, max) = (in_ms(min), in_ms(max));
                Err(BuildError::Limit { field, min, max })
            }
        };
        time(
            "queue_time_max (ms)",
            self.queue_time_max,
            Duration::from_millis(1),
            day,
        )?;
        let age = self.connection_age_max.unwrap_or(day);
        time(
            "connection_age_max (ms)",
            age,
            Duration::from_secs(1),
            day * 365,
        )
    }
}

fn in_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
