//! [`Timestamp`] and [`Span`]: the store's time, as records keep it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of the *store's* clock, in microseconds since the Unix epoch.
///
/// Callers never see one: what crosses the [`ReservationStore`](crate::ReservationStore) trait is durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant this many microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// This instant moved into the future, by whole microseconds and at the most to the end of the clock.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time that a [`Record`](crate::Record) holds: whole microseconds, never zero when it was made from a checked duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span(u64);

impl Span {
    /// The span with this many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The span's microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }
}

/// Rounds up to the next microsecond, so that no duration above zero becomes zero.
impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        let part_of_a_second = u64::from(duration.subsec_nanos().div_ceil(1000));
        Self(duration.as_secs().saturating_mul(1_000_000).saturating_add(part_of_a_second))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_micros(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_duration_is_still_a_microsecond() {
        assert_eq!(Span::from(Duration::from_nanos(1)).as_micros(), 1);
        assert_eq!(Span::from(Duration::from_nanos(1001)).as_micros(), 2);
        assert_eq!(Span::from(Duration::MAX).as_micros(), u64::MAX);
        assert_eq!(Duration::from(Span::from_micros(1_500_000)), Duration::from_millis(1500));
    }
}
