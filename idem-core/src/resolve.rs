//! Resolving by hand what nobody else can: a key whose owner is gone and whose outcome only an operator can find out.

use std::time::Duration;

use crate::call::{Resend, call};
use crate::{
    Answer, CompleteOutcome, Completion, Engine, Key, Operation, OwnerToken, ReleaseOutcome, Reserve,
    ReserveOutcome, Response, StateView, StoreError,
};

/// What an operator found out about a run of unknown outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It had its effect, and this is what duplicates are to be answered.
    Complete(Response),
    /// It had no effect: the request may run again.
    Release,
}

/// How [`Engine::resolve`] ended.
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
    /// Somebody took the key over at the same time, and changed it first. Look again.
    Lost,
}

impl Engine {
    /// Completes or releases a key whose owner's lease is over: the way out of
    /// [`LeaseExpired`](crate::Outcome::LeaseExpired).
    ///
    /// The operator takes the key over as a further attempt and settles it in its own name, so every rule about tokens
    /// and fences holds for it too: a late completion of the old owner is refused.
    pub async fn resolve(&self, key: &Key, resolution: Resolution) -> Result<ResolveOutcome, StoreError> {
        let shared = self.shared();
        let (store, policy) = (&shared.store, &shared.policy);
        let within = policy.reserve_timeout;

        let view = call(Operation::Get, within, Resend::Transient, || store.get(key)).await?;
        let Some(view) = view else { return Ok(ResolveOutcome::NotFound) };
        match view.state {
            StateView::Completed { .. } => return Ok(ResolveOutcome::AlreadyCompleted),
            StateView::InFlight { lease_left, .. } if !view.is_up_for_takeover() => {
                return Ok(ResolveOutcome::StillRunning { lease_left });
            }
            StateView::InFlight { .. } => {}
        }

        let owner = OwnerToken::random();
        let request = Reserve::new(owner, view.fingerprint, policy.lease).record_ttl(policy.record_ttl);
        let reserved =
            call(Operation::Reserve, within, Resend::Unknown, || store.reserve(key, request.clone())).await?;
        match reserved {
            ReserveOutcome::Reserved { .. } => {}
            ReserveOutcome::InFlight { lease_left, .. } => {
                return Ok(ResolveOutcome::StillRunning { lease_left });
            }
            ReserveOutcome::Completed { .. } => return Ok(ResolveOutcome::AlreadyCompleted),
            ReserveOutcome::Stale
            | ReserveOutcome::LeaseExpired { .. }
            | ReserveOutcome::FingerprintMismatch => return Ok(ResolveOutcome::Lost),
        }

        match resolution {
            Resolution::Complete(response) => {
                let completion = Completion::new(Answer::Response(response), policy.retention);
                let send = || store.complete(key, owner, completion.clone());
                let outcome =
                    call(Operation::Complete, policy.complete_timeout, Resend::Transient, send).await?;
                Ok(match outcome {
                    CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted => {
                        ResolveOutcome::Resolved
                    }
                    CompleteOutcome::ResponseConflict | CompleteOutcome::Lost => ResolveOutcome::Lost,
                })
            }
            Resolution::Release => {
                let send = || store.release(key, owner);
                let outcome = call(Operation::Release, within, Resend::Transient, send).await?;
                Ok(match outcome {
                    ReleaseOutcome::Released | ReleaseOutcome::AlreadyReleased => ResolveOutcome::Resolved,
                    ReleaseOutcome::AlreadyCompleted | ReleaseOutcome::Lost => ResolveOutcome::Lost,
                })
            }
        }
    }
}
