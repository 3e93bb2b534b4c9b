//! [`Engine::resolve`]: an operator settles a key whose owner is gone and whose outcome is unknown.

use std::time::Duration;

use crate::answer::{Answer, StoredValue};
use crate::engine::Engine;
use crate::engine::reservation::Reservation;
use crate::engine::reserve::{Request, Reserved};
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::single_flight::SharedResult;
use crate::error::{Operation, StoreError};
use crate::key::Key;
use crate::store::{CompleteOutcome, ReleaseOutcome, StateView};

/// What an operator found out about a run of unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The run had its effect. Duplicates get this value.
    Complete(StoredValue),
    /// The run had no effect. The request may run again.
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
    /// The owner is alive. Wait for it, or stop it and wait until its lease ends.
    StillRunning {
        /// How long its lease still lasts.
        lease_left: Duration,
    },
    /// The key was completed before. Its answer is kept.
    AlreadyCompleted,
    /// The key is resolved as completed, but the value is too large for the store: duplicates get `NotKept`.
    NotKept,
    /// The record went away, or another owner took the key over, at the same time. Check the key again.
    Lost,
}

impl Engine {
    /// Completes or releases a key whose owner's lease is over. Use it when an execution ends as
    /// [`LeaseExpired`](crate::Outcome::LeaseExpired).
    ///
    /// The operator takes the key over as a further attempt and settles it under a token of its own. So all rules about
    /// tokens and fences hold: a late completion of the old owner is refused. If a call fails halfway, resolve the key
    /// again: at once, or, if the store did not acknowledge the end of the first call, when the operator's lease is over.
    pub async fn resolve(&self, key: &Key, resolution: Resolution) -> Result<ResolveOutcome, StoreError> {
        let shared = self.shared();
        let tracked = shared.tracker.enter()?;
        let (timeout, get) = (shared.settings.reserve_timeout, || shared.store.get(key));
        let view = retry(Operation::Get, timeout, RetryPolicy::IfTransient, get).await?;
        let Some(view) = view else { return Ok(ResolveOutcome::NotFound) };
        match view.state {
            StateView::Completed { .. } => return Ok(ResolveOutcome::AlreadyCompleted),
            StateView::InFlight { lease_left, .. } if !view.can_be_taken_over() => {
                return Ok(ResolveOutcome::StillRunning { lease_left });
            }
            StateView::InFlight { .. } => {}
        }

        let request = Request { is_operator: true, ..Request::new(shared, key, &view.fingerprint) };
        let grant = match request.reserve().await? {
            Reserved::Granted(grant) => grant,
            Reserved::InFlight { lease_left } => return Ok(ResolveOutcome::StillRunning { lease_left }),
            Reserved::Result(SharedResult::Answered(_)) => return Ok(ResolveOutcome::AlreadyCompleted),
            Reserved::Result(_) => return Ok(ResolveOutcome::Lost),
        };
        let is_takeover = grant.attempt > view.attempt;
        let reservation = Reservation::new(request, grant, None, tracked);
        if !is_takeover {
            // The record went away after the `get`: the operator has reserved a free key.
            return reservation.release().await.map(|_| ResolveOutcome::Lost);
        }

        Ok(match resolution {
            Resolution::Complete(value) => match reservation.complete_as(value.into()).await? {
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
