//! [`Clock`]: the store's time, which is tokio's clock with a date.
//!
//! The date comes from the system's clock when the store is made. From then on only tokio's monotonic clock counts, so
//! a step of the system's clock neither ends a lease early nor extends one, and a test that pauses tokio's clock moves
//! leases and retentions with `tokio::time::advance`. Outside a runtime, tokio's clock is the standard library's.

use idem_core::store::Timestamp;

/// Returns the current time in microseconds since the Unix epoch.
#[cfg(not(shuttle))]
#[derive(Debug)]
pub(crate) struct Clock {
    epoch_micros: u64,
    started: tokio::time::Instant,
}

#[cfg(not(shuttle))]
impl Clock {
    /// Makes a clock that starts at the system's date, or at 1970 if the system's clock is set to an earlier date.
    pub(crate) fn new() -> Self {
        let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { epoch_micros: micros(date), started: tokio::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.epoch_micros.saturating_add(micros(self.started.elapsed())))
    }
}

#[cfg(not(shuttle))]
fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The model checker's clock: each reading is one microsecond later than the last. So a lease of one microsecond is over
/// at the next operation, a lease of a year never ends, and a schedule replays exactly.
#[cfg(shuttle)]
#[derive(Debug)]
pub(crate) struct Clock {
    // Not shuttle's atomic: threads do not synchronise by reading a clock.
    readings: std::sync::atomic::AtomicU64,
}

#[cfg(shuttle)]
impl Clock {
    pub(crate) fn new() -> Self {
        Self { readings: std::sync::atomic::AtomicU64::new(1_767_268_800_000_000) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.readings.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_and_advances_with_tokios_clock() {
        let clock = Clock::new();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(3600));
    }

    #[test]
    fn outside_a_runtime_it_shows_the_date_and_runs() {
        let clock = Clock::new();
        let date = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(date.abs_diff(Duration::from_micros(clock.now().as_micros())) < Duration::from_secs(60));
        let before = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.now() > before);
    }
}
