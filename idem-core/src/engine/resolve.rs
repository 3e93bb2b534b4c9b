//! Resolving by hand what nobody else can: a key whose owner is gone and whose outcome only an operator can find out.

use std::time::Duration;

use crate::engine::admission::{Caller, Reserved};
use crate::engine::reservation::Reservation;
use crate::engine::retry::{Resend, call};
use crate::engine::settlement::Surrender;
use crate::engine::shutdown::Activity;
use crate::engine::single_flight::Verdict;
use crate::store::StateView;
use crate::{
    Answer, CompleteOutcome, Engine, ExpiredLeasePolicy, Key, Operation, ReleaseOutcome, StoreError,
    StoredValue,
};

/// What an operator found out about a run of unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It had its effect, and this is what duplicates are to be answered.
    Complete(StoredValue),
    /// It had no effect: the request may run again.
    Release,
}

/// How [`Engine::resolve`] ended.
#[must_use = "it says whether the key is resolved"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveOutcome {
    /// The key is resolved.
    Resolved,
    /// There is no record of the key: nothing to resolve.
    NotFound,
    /// Its owner is alive. Wait for it, or stop it and wait for its lease to end.
    StillRunning {
        /// How long its lease still runs.
        lease_left: Duration,
    },
    /// It was completed; the answer is kept.
    AlreadyCompleted,
    /// The key is resolved as completed, but the store called the response too large: duplicates are told that it was
    /// not kept.
    NotKept,
    /// The record went away, or somebody took the key over, at the same time. Look again.
    Lost,
}

impl Engine {
    /// Completes or releases a key whose owner's lease is over: the way out of
    /// [`LeaseExpired`](crate::Outcome::LeaseExpired).
    ///
    /// The operator takes the key over as a further attempt and settles it in its own name, so every rule about tokens
    /// and fences holds for it too: a late completion of the old owner is refused. If this fails halfway, the key
    /// can be resolved again: at once, or when the operator's lease is over if the store did not acknowledge its end.
    pub async fn resolve(&self, key: &Key, resolution: Resolution) -> Result<ResolveOutcome, StoreError> {
        let shared = self.shared();
        let active = Activity::enter(shared)?;
        let within = shared.policy.reserve_timeout;
        let view = call(Operation::Get, within, Resend::Transient, || shared.store.get(key)).await?;
        let Some(view) = view else { return Ok(ResolveOutcome::NotFound) };
        match view.state {
            StateView::Completed { .. } => return Ok(ResolveOutcome::AlreadyCompleted),
            StateView::InFlight { lease_left, .. } if !view.can_be_taken_over() => {
                return Ok(ResolveOutcome::StillRunning { lease_left });
            }
            StateView::InFlight { .. } => {}
        }

        let operator = Caller {
            expired_lease: ExpiredLeasePolicy::TakeOver,
            when_given_up: Surrender::Abandon,
            ..Caller::new(shared, key, &view.fingerprint)
        };
        let grant = match operator.reserve().await? {
            Reserved::Granted(grant) => grant,
            Reserved::InFlight { lease_left } => return Ok(ResolveOutcome::StillRunning { lease_left }),
            Reserved::Decided(Verdict::Answered(_)) => return Ok(ResolveOutcome::AlreadyCompleted),
            Reserved::Decided(_) => return Ok(ResolveOutcome::Lost),
        };
        let is_takeover = grant.attempt > view.attempt;
        let reservation =
            Reservation::new(key, view.fingerprint, grant, operator.runtime.clone(), None, active);
        if !is_takeover {
            // The record went away between the look and the reservation, and this one is of the operator's own making.
            return reservation.release().await.map(|_| ResolveOutcome::Lost);
        }

        Ok(match resolution {
            Resolution::Complete(response) => match reservation.complete_as(response.into()).await? {
                (CompleteOutcome::AnswerConflict | CompleteOutcome::Lost, _) => ResolveOutcome::Lost,
                (_, Answer::NotKept) => ResolveOutcome::NotKept,
                (_, Answer::Value(_)) => ResolveOutcome::Resolved,
            },
            Resolution::Release => match reservation.release().await? {
                ReleaseOutcome::Released | ReleaseOutcome::AlreadyReleased => ResolveOutcome::Resolved,
                ReleaseOutcome::AlreadyCompleted | ReleaseOutcome::Lost => ResolveOutcome::Lost,
            },
        })
    }
}
