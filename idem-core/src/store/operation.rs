//! What each operation of a store is asked, and what it may answer: one outcome enum for each.
//!
//! The request structs are `#[non_exhaustive]`, so that they can gain a field. The outcome enums are exhaustive on
//! purpose: a new outcome must break the build of the code that has to handle it.

use std::time::Duration;

use crate::store::{FencingToken, OwnerToken};
use crate::time::Span;
use crate::{Answer, Effect, ExpiredLeasePolicy, Fingerprint, Operation, StoreError, StoreErrorKind};

/// What [`reserve`](crate::ReservationStore::reserve) is asked.
///
/// ```
/// use std::time::Duration;
/// use idem_core::store::{OwnerToken, ReserveRequest, Span};
/// use idem_core::{ExpiredLeasePolicy, Fingerprint};
///
/// let fingerprint = Fingerprint::from_parts(["POST", "/db"]);
/// let lease = Span::new(Duration::from_secs(60))?;
/// let request = ReserveRequest::new(OwnerToken::random(), fingerprint, lease)
///     .record_ttl(Span::new(Duration::from_secs(3600))?)
///     .on_expired_lease(ExpiredLeasePolicy::Refuse);
/// assert_eq!(request.lease, lease);
/// # Ok::<(), idem_core::store::InvalidSpan>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReserveRequest {
    /// The token that will own the key: a new one for each reservation, the same one when a reservation is resent.
    pub owner: OwnerToken,
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// How long the owner may stay silent before others may take over.
    pub lease: Span,
    /// How long an unfinished record is kept after its lease ends.
    pub record_ttl: Span,
    /// What to do if another owner's lease is over.
    pub on_expired_lease: ExpiredLeasePolicy,
}

impl ReserveRequest {
    /// How long an unfinished record is kept unless the request says otherwise: a day.
    pub const DEFAULT_RECORD_TTL: Span = match Span::new(Duration::from_secs(24 * 3600)) {
        Ok(day) => day,
        Err(_) => Span::MAX,
    };

    /// A request with [`DEFAULT_RECORD_TTL`](Self::DEFAULT_RECORD_TTL) that takes over from an owner whose lease is
    /// over.
    pub fn new(owner: OwnerToken, fingerprint: Fingerprint, lease: Span) -> Self {
        Self {
            owner,
            fingerprint,
            lease,
            record_ttl: Self::DEFAULT_RECORD_TTL,
            on_expired_lease: ExpiredLeasePolicy::TakeOver,
        }
    }

    /// Sets how long an unfinished record is kept after its lease ends.
    #[must_use]
    pub fn record_ttl(mut self, record_ttl: Span) -> Self {
        self.record_ttl = record_ttl;
        self
    }

    /// Sets what to do if another owner's lease is over.
    #[must_use]
    pub fn on_expired_lease(mut self, policy: ExpiredLeasePolicy) -> Self {
        self.on_expired_lease = policy;
        self
    }
}

/// What [`complete`](crate::ReservationStore::complete) is asked to keep, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// What duplicates are answered.
    pub answer: Answer,
    /// How long it is kept, counted from the completion.
    pub retention: Span,
}

impl Completion {
    /// A completion that keeps `answer` for `retention`.
    pub fn new(answer: impl Into<Answer>, retention: Span) -> Self {
        Self { answer: answer.into(), retention }
    }

    /// Refuses an answer of more than `max_bytes` as [`TooLarge`](StoreErrorKind::TooLarge). A backend with a limit calls
    /// this before any I/O.
    pub fn check(&self, max_bytes: usize) -> Result<(), StoreError> {
        let bytes = self.answer.len();
        if bytes <= max_bytes {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::TooLarge, Effect::NotApplied, Operation::Complete)
            .with_source(format!("the answer has {bytes} bytes; this store keeps at most {max_bytes}")))
    }
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
    AnswerConflict,
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
