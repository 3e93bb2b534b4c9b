//! The requests and outcomes of the operations of a store.
//!
//! The requests are `#[non_exhaustive]`, so that they can gain a field. The outcomes are exhaustive on purpose: a new
//! outcome must break the build of code that has to handle it.

use std::time::Duration;

use crate::store::record::{FencingToken, OwnerToken};
use crate::time::Span;
use crate::{Answer, Effect, ExpiredLeasePolicy, Fingerprint, Operation, StoreError, StoreErrorKind};

/// The request of [`reserve`](crate::ReservationStore::reserve).
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
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// How long the owner may be silent before others may take over.
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

/// What [`complete`](crate::ReservationStore::complete) keeps, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The answer that duplicates get.
    pub answer: Answer,
    /// How long it is kept, counted from the completion.
    pub retention: Span,
}

impl Completion {
    /// A completion that keeps `answer` for `retention`.
    pub fn new(answer: impl Into<Answer>, retention: Span) -> Self {
        Self { answer: answer.into(), retention }
    }

    /// Fails with [`TooLarge`](StoreErrorKind::TooLarge) if the answer has more than `max_bytes`. A backend with a limit
    /// calls this before any I/O.
    pub fn check(&self, max_bytes: usize) -> Result<(), StoreError> {
        let bytes = self.answer.len();
        if bytes <= max_bytes {
            return Ok(());
        }
        Err(StoreError::new(StoreErrorKind::TooLarge, Effect::NotApplied, Operation::Complete)
            .with_source(format!("the answer has {bytes} bytes; this store keeps at most {max_bytes}")))
    }
}

/// The outcome of [`reserve`](crate::ReservationStore::reserve).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether to run"]
pub enum ReserveOutcome {
    /// The key is yours: run.
    Reserved {
        /// Above 1, an earlier attempt may have had its effect.
        attempt: u32,
        /// Greater than the fence of every earlier owner.
        fence: FencingToken,
        /// How long the lease lasts from now.
        lease_left: Duration,
    },
    /// This token is used up: it completed, released or abandoned before this reservation arrived.
    Stale,
    /// Another owner is running.
    InFlight {
        /// The number of its attempt.
        attempt: u32,
        /// How long its lease still lasts; more than zero.
        lease_left: Duration,
    },
    /// Another owner's lease is over or abandoned, and the request refuses to take over.
    LeaseExpired {
        /// The number of its attempt.
        attempt: u32,
    },
    /// The key belongs to another request. Nothing of that request is shown.
    FingerprintMismatch,
    /// The request was completed by another owner.
    Completed {
        /// Its answer.
        answer: Answer,
        /// The number of the attempt that completed.
        attempt: u32,
    },
}

/// The outcome of [`complete`](crate::ReservationStore::complete).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum CompleteOutcome {
    /// The answer is stored.
    Completed,
    /// This token has completed with the same answer before.
    AlreadyCompleted,
    /// This token has completed with another answer before; the first is kept.
    AnswerConflict,
    /// The token does not own the key, or does not own it any more. Nothing was stored.
    Lost,
}

/// The outcome of [`release`](crate::ReservationStore::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum ReleaseOutcome {
    /// The key is free.
    Released,
    /// It was free, or released by this token before.
    AlreadyReleased,
    /// This token has completed; the answer is kept.
    AlreadyCompleted,
    /// The token does not own the key, or does not own it any more. Nothing changed.
    Lost,
}

/// The outcome of [`abandon`](crate::ReservationStore::abandon).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum AbandonOutcome {
    /// The next reservation takes the key over.
    Abandoned,
    /// This token has completed; the answer is kept.
    AlreadyCompleted,
    /// The token does not own the key, or does not own it any more. Nothing changed.
    Lost,
}

/// The outcome of [`renew`](crate::ReservationStore::renew).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "it says whether the key is still the caller's"]
pub enum RenewOutcome {
    /// The lease lasts at least as long as requested.
    Renewed {
        /// How long the lease lasts from now.
        lease_left: Duration,
    },
    /// This token has completed; there is nothing to renew.
    AlreadyCompleted,
    /// The token does not own the key, does not own it any more, or gave it up.
    Lost,
}
