//! The state machine of a key: one pure function for each operation. No I/O, no clock, no randomness.
//!
//! Each function takes the record that the store has for the key (expired or not, or `None`), the request and the store's
//! time. It returns the outcome, and the record to write instead; `None` means that the store keeps what it has. A backend
//! that can lock a record calls the functions under that lock.
//!
//! ```
//! use std::time::Duration;
//! use idem_core::Fingerprint;
//! use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest, Span, Timestamp, transition};
//!
//! let (alice, bob) = (OwnerToken::random(), OwnerToken::random());
//! let minute = Span::new(Duration::from_secs(60))?;
//! let request = |owner| ReserveRequest::new(owner, Fingerprint::from_parts(["POST /db"]), minute);
//! let noon = Timestamp::from_micros(1_767_268_800_000_000);
//!
//! let (outcome, record) = transition::reserve(None, &request(alice), noon)?;
//! assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 1, .. }));
//!
//! let (outcome, unchanged) = transition::reserve(record.as_ref(), &request(bob), noon)?;
//! assert_eq!(outcome, ReserveOutcome::InFlight { attempt: 1, lease_left: Duration::from_secs(60) });
//! assert_eq!(unchanged, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! INV-1: an expired record counts as absent, in every function and before anything else, so that no outcome depends on
//! when a store sweeps. Only its fence still counts.
//! INV-2: a lease that was granted is never shortened by its owner's `reserve` or `renew`.
//! INV-3: a completed record is never written again before it expires.

use std::time::Duration;

use crate::error::{Effect, Operation, StoreError, StoreErrorKind};
use crate::policy::ExpiredLeasePolicy;
use crate::store::operation::{
    AbandonOutcome, CompleteOutcome, Completion, ReleaseOutcome, RenewOutcome, ReserveOutcome, ReserveRequest,
};
use crate::store::record::{FencingToken, OwnerToken, Record, State};
use crate::time::{Span, Timestamp};

/// How long a tombstone is kept at least: longer than a reservation can plausibly be delayed. The tombstone of a key that
/// was absent is kept for exactly this long, since no lease is known.
pub const MIN_TOMBSTONE: Span = match Span::new(Duration::from_secs(5 * 60)) {
    Ok(five_minutes) => five_minutes,
    Err(_) => Span::MAX,
};

/// The record to write, or `None` to change nothing.
pub type Change = Option<Record>;

/// [`ReservationStore::reserve`](crate::ReservationStore::reserve).
///
/// Fails only if the fencing tokens are used up, as an error that [`FencingToken::next`] explains.
#[inline]
pub fn reserve(
    found: Option<&Record>,
    request: &ReserveRequest,
    now: Timestamp,
) -> Result<(ReserveOutcome, Change), StoreError> {
    let previous_fence = found.map(|record| record.fence);
    let Some(record) = unexpired(found, now) else {
        return grant(request, 1, previous_fence, now);
    };
    Ok(match &record.state {
        State::Released if record.owner == request.owner => (ReserveOutcome::Stale, None),
        State::Released => return grant(request, record.attempt, previous_fence, now),

        State::InFlight { .. } | State::Completed { .. } if record.fingerprint != request.fingerprint => {
            (ReserveOutcome::FingerprintMismatch, None)
        }

        State::InFlight { abandoned: true, .. } if record.owner == request.owner => {
            (ReserveOutcome::Stale, None)
        }
        State::InFlight { lease_until, lease, record_ttl, .. } if record.owner == request.owner => {
            let held = (*lease_until, *lease);
            let (record, lease_left) = extended(record, held, *record_ttl, request.lease, now);
            let (attempt, fence) = (record.attempt, record.fence);
            (ReserveOutcome::Reserved { attempt, fence, lease_left }, Some(record))
        }
        State::InFlight { lease_until, abandoned: false, .. } if now < *lease_until => {
            let lease_left = lease_until.since(now);
            (ReserveOutcome::InFlight { attempt: record.attempt, lease_left }, None)
        }
        State::InFlight { .. } => match request.on_expired_lease {
            ExpiredLeasePolicy::TakeOver => {
                return grant(request, record.attempt.saturating_add(1), previous_fence, now);
            }
            ExpiredLeasePolicy::Refuse => (ReserveOutcome::LeaseExpired { attempt: record.attempt }, None),
        },

        State::Completed { .. } if record.owner == request.owner => (ReserveOutcome::Stale, None),
        State::Completed { answer, .. } => {
            (ReserveOutcome::Completed { answer: answer.clone(), attempt: record.attempt }, None)
        }
    })
}

/// [`ReservationStore::complete`](crate::ReservationStore::complete).
#[inline]
pub fn complete(
    found: Option<&Record>,
    owner: OwnerToken,
    completion: Completion,
    now: Timestamp,
) -> (CompleteOutcome, Change) {
    let Some(record) = owned(found, owner, now) else {
        return (CompleteOutcome::Lost, None);
    };
    match &record.state {
        State::InFlight { .. } => {
            let completed = Record {
                state: State::Completed { answer: completion.answer, completed_at: now },
                expires_at: now.saturating_add(completion.retention),
                ..*record
            };
            (CompleteOutcome::Completed, Some(completed))
        }
        State::Completed { answer, .. } if *answer == completion.answer => {
            (CompleteOutcome::AlreadyCompleted, None)
        }
        State::Completed { .. } => (CompleteOutcome::AnswerConflict, None),
        State::Released => (CompleteOutcome::Lost, None),
    }
}

/// [`ReservationStore::release`](crate::ReservationStore::release).
///
/// Fails only if the fencing tokens are used up.
#[inline]
pub fn release(
    found: Option<&Record>,
    owner: OwnerToken,
    now: Timestamp,
) -> Result<(ReleaseOutcome, Change), StoreError> {
    let Some(record) = unexpired(found, now) else {
        let fence = next_fence(Operation::Release, found.map(|record| record.fence), now)?;
        let tombstone = tombstone(owner, fence, 1, MIN_TOMBSTONE, now);
        return Ok((ReleaseOutcome::AlreadyReleased, Some(tombstone)));
    };
    if record.owner != owner {
        return Ok((ReleaseOutcome::Lost, None));
    }
    Ok(match &record.state {
        State::InFlight { lease, record_ttl, .. } => {
            // After a takeover the attempt number must outlive the release: the earlier run may have had its effect, and
            // the next run has to see that for as long as the record would have been kept.
            let kept = (*lease).max(MIN_TOMBSTONE);
            let kept = if record.attempt > 1 { kept.max(*record_ttl) } else { kept };
            let tombstone = tombstone(owner, record.fence, record.attempt, kept, now);
            (ReleaseOutcome::Released, Some(tombstone))
        }
        State::Released => (ReleaseOutcome::AlreadyReleased, None),
        State::Completed { .. } => (ReleaseOutcome::AlreadyCompleted, None),
    })
}

/// [`ReservationStore::abandon`](crate::ReservationStore::abandon).
#[inline]
pub fn abandon(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> (AbandonOutcome, Change) {
    let Some(record) = owned(found, owner, now) else {
        return (AbandonOutcome::Lost, None);
    };
    match &record.state {
        State::InFlight { abandoned: true, .. } => (AbandonOutcome::Abandoned, None),
        State::InFlight { lease_until, lease, record_ttl, abandoned: false } => {
            let state = State::InFlight {
                lease_until: *lease_until,
                lease: *lease,
                record_ttl: *record_ttl,
                abandoned: true,
            };
            let expires_at = now.saturating_add(*record_ttl);
            (AbandonOutcome::Abandoned, Some(Record { state, expires_at, ..*record }))
        }
        State::Completed { .. } => (AbandonOutcome::AlreadyCompleted, None),
        State::Released => (AbandonOutcome::Lost, None),
    }
}

/// [`ReservationStore::renew`](crate::ReservationStore::renew).
#[inline]
pub fn renew(
    found: Option<&Record>,
    owner: OwnerToken,
    lease: Span,
    now: Timestamp,
) -> (RenewOutcome, Change) {
    let Some(record) = owned(found, owner, now) else {
        return (RenewOutcome::Lost, None);
    };
    match &record.state {
        State::InFlight { lease_until, lease: held, record_ttl, abandoned: false } => {
            let held = (*lease_until, *held);
            let (record, lease_left) = extended(record, held, *record_ttl, lease, now);
            (RenewOutcome::Renewed { lease_left }, Some(record))
        }
        State::Completed { .. } => (RenewOutcome::AlreadyCompleted, None),
        State::InFlight { abandoned: true, .. } | State::Released => (RenewOutcome::Lost, None),
    }
}

/// The record, unless it counts as absent (INV-1).
#[inline]
fn unexpired(found: Option<&Record>, now: Timestamp) -> Option<&Record> {
    found.filter(|record| !record.is_expired(now))
}

/// The record, if it exists and belongs to `owner`.
#[inline]
fn owned(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> Option<&Record> {
    unexpired(found, now).filter(|record| record.owner == owner)
}

/// Makes `request.owner` the owner, as the given attempt.
#[inline]
fn grant(
    request: &ReserveRequest,
    attempt: u32,
    previous_fence: Option<FencingToken>,
    now: Timestamp,
) -> Result<(ReserveOutcome, Change), StoreError> {
    let fence = next_fence(Operation::Reserve, previous_fence, now)?;
    let (lease, record_ttl) = (request.lease, request.record_ttl);
    let lease_until = now.saturating_add(lease);
    let record = Record {
        owner: request.owner,
        fence,
        attempt,
        fingerprint: request.fingerprint,
        state: State::InFlight { lease_until, lease, record_ttl, abandoned: false },
        expires_at: lease_until.saturating_add(record_ttl),
    };
    let lease_left = lease_until.since(now);
    Ok((ReserveOutcome::Reserved { attempt, fence, lease_left }, Some(record)))
}

/// Moves the end of the lease, `held` until an instant and for a span, to `now + asked` if that is later (INV-2). Returns
/// the record and how long the lease then lasts.
#[inline]
fn extended(
    record: &Record,
    held: (Timestamp, Span),
    record_ttl: Span,
    asked: Span,
    now: Timestamp,
) -> (Record, Duration) {
    let asked = (now.saturating_add(asked), asked);
    let (lease_until, lease) = if asked.0 >= held.0 { asked } else { held };
    let state = State::InFlight { lease_until, lease, record_ttl, abandoned: false };
    let record = Record { state, expires_at: lease_until.saturating_add(record_ttl), ..*record };
    (record, lease_until.since(now))
}

fn tombstone(owner: OwnerToken, fence: FencingToken, attempt: u32, kept: Span, now: Timestamp) -> Record {
    Record {
        owner,
        fence,
        attempt,
        fingerprint: Record::NO_FINGERPRINT,
        state: State::Released,
        expires_at: now.saturating_add(kept),
    }
}

fn next_fence(
    operation: Operation,
    previous: Option<FencingToken>,
    now: Timestamp,
) -> Result<FencingToken, StoreError> {
    FencingToken::next(previous, now).ok_or_else(|| {
        StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, operation).with_source(
            "the fencing tokens of this key are used up (above 2^53 - 1); check the store's clock",
        )
    })
}
