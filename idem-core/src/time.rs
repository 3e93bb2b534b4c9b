//! [`Timestamp`] and [`Span`]: the time of the store, as records keep it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant of the *store's* clock, in microseconds since the Unix epoch.
///
/// Callers never see a timestamp: only durations cross the [`ReservationStore`](crate::ReservationStore) trait.
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

    /// The time since `earlier`; zero if this is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` after this one, and at most the last instant of the clock.
    #[must_use]
    pub const fn saturating_add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A lease, a `record_ttl` or a retention: whole microseconds, more than zero and at most [`Span::MAX`].
///
/// It is checked when it is made, so stores do not check it again.
///
/// ```
/// use std::time::Duration;
/// use idem_core::store::Span;
///
/// let lease = Span::new(Duration::from_secs(60))?;
/// assert_eq!(Duration::from(lease), Duration::from_secs(60));
/// assert!(Span::new(Duration::ZERO).is_err());
/// # Ok::<(), idem_core::store::InvalidSpan>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Span(u64);

impl Span {
    /// The shortest span: a microsecond.
    pub const MIN: Self = Self(1);
    /// The longest span: ten years of 365 days.
    pub const MAX: Self = Self(10 * 365 * 24 * 3600 * 1_000_000);

    /// The span of this duration, rounded up to the next microsecond. Fails if it is zero or above [`MAX`](Self::MAX).
    pub const fn new(duration: Duration) -> Result<Self, InvalidSpan> {
        let nanos = duration.as_nanos();
        if nanos == 0 || nanos > Self::MAX.0 as u128 * 1000 {
            return Err(InvalidSpan { duration });
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX, which fits")]
        Ok(Self(nanos.div_ceil(1000) as u64))
    }

    /// The span of this many microseconds. Fails if it is zero or above [`MAX`](Self::MAX).
    pub const fn from_micros(micros: u64) -> Result<Self, InvalidSpan> {
        Self::new(Duration::from_micros(micros))
    }

    /// The span's microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span as a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }
}

impl TryFrom<Duration> for Span {
    type Error = InvalidSpan;

    fn try_from(duration: Duration) -> Result<Self, InvalidSpan> {
        Self::new(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.as_duration()
    }
}

impl TryFrom<u64> for Span {
    type Error = InvalidSpan;

    fn try_from(micros: u64) -> Result<Self, InvalidSpan> {
        Self::from_micros(micros)
    }
}

impl From<Span> for u64 {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// A duration that cannot be a [`Span`]: zero, or above [`Span::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the duration is {duration:?}; make it more than zero and at most ten years")]
#[non_exhaustive]
pub struct InvalidSpan {
    /// The duration.
    pub duration: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_rounded_up_to_whole_microseconds() {
        let micros = |duration| Span::new(duration).map(Span::as_micros);
        assert_eq!(micros(Duration::from_nanos(1)), Ok(1));
        assert_eq!(micros(Duration::from_nanos(1001)), Ok(2));
        assert_eq!(Span::from_micros(1_500_000).map(Duration::from), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn a_span_is_above_zero_and_at_most_ten_years() {
        let longest = Duration::from_secs(315_360_000);
        assert_eq!(Span::new(longest), Ok(Span::MAX));
        assert_eq!(Span::MIN.as_micros(), 1);
        for wrong in [Duration::ZERO, longest + Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(Span::new(wrong), Err(InvalidSpan { duration: wrong }));
        }
        assert!(serde_json::from_str::<Span>("0").is_err());
        assert!(Span::from_micros(u64::MAX).is_err());
    }

    #[test]
    fn a_refused_duration_says_what_to_do() {
        let error = Span::new(Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "the duration is 0ns; make it more than zero and at most ten years");
    }
}
