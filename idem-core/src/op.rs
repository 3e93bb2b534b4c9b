//! The operations of a store: what is asked ([`Reserve`], [`Completion`]) and what may be answered (one outcome enum
//! each).
//!
//! The request structs are `#[non_exhaustive]`, so that they may gain a field; the outcome enums are exhaustive on
//! purpose, so that a new outcome breaks the build of whoever must handle it.

use std::time::Duration;

use crate::{
    Answer, Effect, ExpiredLeasePolicy, FencingToken, Fingerprint, Operation, OwnerToken, StoreError,
    StoreErrorKind,
};

/// The longest lease, `record_ttl` or retention: ten years.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What [`reserve`](crate::ReservationStore::reserve) is asked.
///
/// ```
/// use std::time::Duration;
/// use idem_core::{ExpiredLeasePolicy, Fingerprint, OwnerToken, Reserve};
///
/// let request = Reserve::new(OwnerToken::random(), Fingerprint::of(["POST", "/db"]), Duration::from_secs(60))
///     .record_ttl(Duration::from_secs(3600))
///     .on_expired_lease(ExpiredLeasePolicy::Refuse);
/// assert!(request.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reserve {
    /// The token that will own the key: new for each reservation, the same when one is sent again.
    pub owner: OwnerToken,
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// How long the owner may stay silent before others may take over.
    pub lease: Duration,
    /// How long the record is remembered after its lease if nobody decides it.
    pub record_ttl: Duration,
    /// What to do if another owner's lease is over.
    pub on_expired_lease: ExpiredLeasePolicy,
}

impl Reserve {
    /// How long an undecided record is remembered unless the request says otherwise: a day.
    pub const DEFAULT_RECORD_TTL: Duration = Duration::from_secs(24 * 3600);

    /// A request that remembers its record for [`DEFAULT_RECORD_TTL`](Self::DEFAULT_RECORD_TTL) and takes over from
    /// an expired owner.
    pub fn new(owner: OwnerToken, fingerprint: Fingerprint, lease: Duration) -> Self {
        Self {
            owner,
            fingerprint,
            lease,
            record_ttl: Self::DEFAULT_RECORD_TTL,
            on_expired_lease: ExpiredLeasePolicy::TakeOver,
        }
    }

    /// The same request with another `record_ttl`.
    #[must_use]
    pub fn record_ttl(mut self, record_ttl: Duration) -> Self {
        self.record_ttl = record_ttl;
        self
    }

    /// The same request with another policy for expired leases.
    #[must_use]
    pub fn on_expired_lease(mut self, policy: ExpiredLeasePolicy) -> Self {
        self.on_expired_lease = policy;
        self
    }

    /// Refuses durations of zero and above [`MAX_DURATION`]. Every backend calls this before any I/O.
    pub fn check(&self) -> Result<(), StoreError> {
        check_duration(Operation::Reserve, "lease", self.lease)?;
        check_duration(Operation::Reserve, "record_ttl", self.record_ttl)
    }
}

/// What [`complete`](crate::ReservationStore::complete) is asked to keep, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// What duplicates are to be told.
    pub answer: Answer,
    /// How long, counted from the instant of completion.
    pub retention: Duration,
}

impl Completion {
    /// A completion that keeps `answer` for `retention`.
    pub fn new(answer: impl Into<Answer>, retention: Duration) -> Self {
        Self { answer: answer.into(), retention }
    }

    /// Refuses durations of zero and above [`MAX_DURATION`]. Every backend calls this before any I/O.
    pub fn check(&self) -> Result<(), StoreError> {
        check_duration(Operation::Complete, "retention", self.retention)
    }
}

/// Refuses a lease of zero and above [`MAX_DURATION`]. Every backend's `renew` calls this before any I/O.
pub fn check_lease(lease: Duration) -> Result<(), StoreError> {
    check_duration(Operation::Renew, "lease", lease)
}

fn check_duration(operation: Operation, what: &'static str, duration: Duration) -> Result<(), StoreError> {
    if !duration.is_zero() && duration <= MAX_DURATION {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::Misconfigured, Effect::NotApplied, operation)
        .with_source(InvalidDuration { what, duration }))
}

/// A duration that no store takes: zero, or above [`MAX_DURATION`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} is {duration:?}; make it more than zero and at most ten years")]
pub struct InvalidDuration {
    /// Which duration it is: `"lease"`, `"record_ttl"` or `"retention"`.
    pub what: &'static str,
    /// What it was.
    pub duration: Duration,
}

/// What [`reserve`](crate::ReservationStore::reserve) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether to run"]
pub enum ReserveOutcome {
    /// The key is yours: run.
    Reserved {
        /// Above 1, an earlier attempt may have had its effect.
        attempt: u32,
        /// Greater than every earlier owner's.
        fence: FencingToken,
        /// How long the lease runs from now.
        lease_left: Duration,
    },
    /// This token's time has passed: it completed, released or abandoned before this reservation arrived.
    Stale,
    /// Another owner is running.
    InFlight {
        /// The number of its attempt.
        attempt: u32,
        /// How long its lease still runs; more than zero.
        lease_left: Duration,
    },
    /// Another owner's lease is over or abandoned, and taking over was refused by the request.
    LeaseExpired {
        /// The number of its attempt.
        attempt: u32,
    },
    /// The key belongs to another request. Nothing of that request is told.
    FingerprintMismatch,
    /// The request was completed by another owner.
    Completed {
        /// What it answered.
        answer: Answer,
        /// The number of the attempt that completed.
        attempt: u32,
    },
}

/// What [`complete`](crate::ReservationStore::complete) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum CompleteOutcome {
    /// The answer is stored.
    Completed,
    /// This token has completed with this very answer before.
    AlreadyCompleted,
    /// This token has completed with another answer before; the first is kept.
    ResponseConflict,
    /// The token does not own the key (any more). Nothing was stored.
    Lost,
}

/// What [`release`](crate::ReservationStore::release) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum ReleaseOutcome {
    /// The key is free.
    Released,
    /// It was free, or released by this token before.
    AlreadyReleased,
    /// This token has completed; the answer is kept.
    AlreadyCompleted,
    /// The token does not own the key (any more). Nothing changed.
    Lost,
}

/// What [`abandon`](crate::ReservationStore::abandon) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum AbandonOutcome {
    /// The next reservation takes the key over.
    Abandoned,
    /// This token has completed; the answer is kept.
    AlreadyCompleted,
    /// The token does not own the key (any more). Nothing changed.
    Lost,
}

/// What [`renew`](crate::ReservationStore::renew) answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum RenewOutcome {
    /// The lease runs at least as long as was asked.
    Renewed {
        /// How long the lease runs from now.
        lease_left: Duration,
    },
    /// This token has completed; there is nothing to renew.
    AlreadyCompleted,
    /// The token does not own the key (any more), or gave it up.
    Lost,
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    fn reserve(lease: Duration, record_ttl: Duration) -> Reserve {
        Reserve::new(OwnerToken::from_bytes([1; 16]), Fingerprint::of(["a"]), lease).record_ttl(record_ttl)
    }

    #[test]
    fn ten_years_and_a_day_have_the_seconds_that_they_should() {
        assert_eq!(MAX_DURATION.as_secs(), 315_360_000);
        let request = Reserve::new(OwnerToken::from_bytes([1; 16]), Fingerprint::of(["a"]), MAX_DURATION);
        assert_eq!(request.record_ttl.as_secs(), 86_400);
    }

    #[test]
    fn durations_are_above_zero_and_at_most_ten_years() {
        let ok = Duration::from_secs(1);
        let too_long = MAX_DURATION + Duration::from_nanos(1);
        assert!(reserve(ok, ok).check().is_ok());
        assert!(reserve(Duration::from_nanos(1), MAX_DURATION).check().is_ok());
        for wrong in [Duration::ZERO, too_long] {
            assert!(reserve(wrong, ok).check().is_err());
            assert!(reserve(ok, wrong).check().is_err());
            assert!(Completion::new(Answer::NotKept, wrong).check().is_err());
            assert!(check_lease(wrong).is_err());
        }
    }

    #[test]
    fn a_refused_duration_says_which_and_what_to_do() {
        let error = reserve(Duration::ZERO, MAX_DURATION).check().unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
        assert_eq!(
            error.source().unwrap().to_string(),
            "the lease is 0ns; make it more than zero and at most ten years"
        );
    }
}
