//! [`Settlement`]: how a run ends at the store; and [`ReleaseOnDrop`], for reservations without a known outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::answer::Answer;
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::run::Run;
use crate::engine::shared::Shared;
use crate::error::{Operation, StoreError, StoreErrorKind};
use crate::key::Key;
use crate::observe;
use crate::store::{
    AbandonOutcome, CompleteOutcome, Completion, OwnerToken, ReleaseOutcome, ReservationStore,
};

/// What remains to be done at the store at the end of a run.
#[derive(Clone, Debug)]
pub(crate) enum Settlement {
    /// The run has an answer.
    Complete(Completion),
    /// Nothing happened.
    Release,
    /// It is not known what happened.
    Abandon,
}

/// Completes the run. Retried with the same token until it is acknowledged or `timeout` has passed. Returns the outcome
/// and the answer that was recorded.
///
/// An answer that the store refuses as too large is recorded as [`Answer::NotKept`] instead: the handler ran, and that
/// must not stay unrecorded.
pub(crate) async fn complete(
    store: &dyn ReservationStore,
    run: &Run,
    mut completion: Completion,
    timeout: Duration,
) -> Result<(CompleteOutcome, Answer), StoreError> {
    loop {
        let send = || store.complete(&run.key, run.owner, completion.clone());
        match retry(Operation::Complete, timeout, RetryPolicy::IfTransient, send).await {
            Ok(outcome) => return Ok((outcome, completion.answer)),
            Err(error) if error.kind == StoreErrorKind::TooLarge && completion.answer != Answer::NotKept => {
                observe::not_kept(run, &error);
                completion.answer = Answer::NotKept;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Releases the run. Retried until it is acknowledged or `timeout` has passed.
pub(crate) async fn release(
    store: &dyn ReservationStore,
    run: &Run,
    timeout: Duration,
    policy: RetryPolicy,
) -> Result<ReleaseOutcome, StoreError> {
    retry(Operation::Release, timeout, policy, || store.release(&run.key, run.owner)).await
}

/// Abandons the run. Retried until it is acknowledged or `timeout` has passed.
pub(crate) async fn abandon(
    store: &dyn ReservationStore,
    run: &Run,
    timeout: Duration,
    policy: RetryPolicy,
) -> Result<AbandonOutcome, StoreError> {
    retry(Operation::Abandon, timeout, policy, || store.abandon(&run.key, run.owner)).await
}

/// Releases the run while nobody waits for it. Retried for at most a lease: after that nothing is left to release.
pub(crate) async fn release_in_background(shared: &Shared, run: &Run) {
    let lease = shared.settings.lease.as_duration();
    if let Err(error) = release(&*shared.store, run, lease, RetryPolicy::InBackground).await {
        observe::unsettled(run, &error);
    }
}

/// Abandons the run while nobody waits for it. Retried for at most a lease: after that nothing is left to abandon.
pub(crate) async fn abandon_in_background(shared: &Shared, run: &Run) {
    let lease = shared.settings.lease.as_duration();
    if let Err(error) = abandon(&*shared.store, run, lease, RetryPolicy::InBackground).await {
        observe::unsettled(run, &error);
    }
}

/// Releases a reservation in the background when it is dropped, unless it is disarmed.
///
/// It is dropped armed if the outcome of the reservation is unknown, or if the caller went away before the answer came.
/// Whether the reservation took effect, still will or never does, the release makes its token stale.
///
/// A reservation of an operator is abandoned instead: it takes over a run, and a release would say of that run, too,
/// that nothing happened.
pub(crate) struct ReleaseOnDrop<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    /// Without a runtime the lease has to run out.
    pub(crate) runtime: Option<&'a Handle>,
    pub(crate) key: &'a Key,
    pub(crate) owner: OwnerToken,
    pub(crate) is_operator: bool,
    pub(crate) is_armed: bool,
}

impl ReleaseOnDrop<'_> {
    pub(crate) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for ReleaseOnDrop<'_> {
    fn drop(&mut self) {
        let (true, Some(runtime)) = (self.is_armed, self.runtime) else { return };
        let Ok(permit) = Arc::clone(&self.shared.releases).try_acquire_owned() else { return };
        let (shared, tracked) = (Arc::clone(self.shared), self.shared.tracker.track());
        let (run, is_operator) = (Run::unconfirmed(self.key, self.owner), self.is_operator);
        runtime.spawn(async move {
            if is_operator {
                abandon_in_background(&shared, &run).await;
            } else {
                release_in_background(&shared, &run).await;
            }
            drop((permit, tracked));
        });
    }
}
