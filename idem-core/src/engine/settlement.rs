//! How a run ends at the store: [`Settlement`], and the sending of each.

use std::time::Duration;

use crate::engine::Shared;
use crate::engine::attempt::Ownership;
use crate::engine::retry::{Resend, call};
use crate::store::Completion;
use crate::{
    AbandonOutcome, Answer, CompleteOutcome, Operation, ReleaseOutcome, ReservationStore, StoreError,
    StoreErrorKind, observe,
};

/// What is to be done at the store at the end of a run.
#[derive(Clone, Debug)]
pub(crate) enum Settlement {
    /// The run has an answer.
    Complete(Completion),
    /// It has none.
    Surrender(Surrender),
}

/// How a key is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surrender {
    /// Nothing happened.
    Release,
    /// Nobody knows what happened.
    Abandon,
}

/// Completes the run. Sent again and again with the same token until it is acknowledged or `within` has passed.
///
/// An answer that the store refuses as too large is recorded as [`Answer::NotKept`] instead: the handler ran, and the
/// worst thing to do would be to leave that unrecorded. The answer that was recorded is given beside the outcome.
pub(crate) async fn complete(
    store: &dyn ReservationStore,
    run: &Ownership,
    mut completion: Completion,
    within: Duration,
) -> Result<(CompleteOutcome, Answer), StoreError> {
    loop {
        let send = || store.complete(&run.key, run.owner, completion.clone());
        match call(Operation::Complete, within, Resend::Transient, send).await {
            Ok(outcome) => return Ok((outcome, completion.answer)),
            Err(error) if error.kind == StoreErrorKind::TooLarge && completion.answer != Answer::NotKept => {
                observe::not_kept(run, &error);
                completion.answer = Answer::NotKept;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Releases the run. Sent again until it is acknowledged or `within` has passed.
pub(crate) async fn release(
    store: &dyn ReservationStore,
    run: &Ownership,
    within: Duration,
    resend: Resend,
) -> Result<ReleaseOutcome, StoreError> {
    let send = || store.release(&run.key, run.owner);
    call(Operation::Release, within, resend, send).await
}

/// Abandons the run. Sent again until it is acknowledged or `within` has passed.
pub(crate) async fn abandon(
    store: &dyn ReservationStore,
    run: &Ownership,
    within: Duration,
    resend: Resend,
) -> Result<AbandonOutcome, StoreError> {
    let send = || store.abandon(&run.key, run.owner);
    call(Operation::Abandon, within, resend, send).await
}

/// Gives the key up while nobody waits for it: patiently, and for at most a lease, beyond which there is nothing left
/// to give up.
pub(crate) async fn surrender_in_background(shared: &Shared, run: &Ownership, how: Surrender) {
    let (store, within, resend) = (&*shared.store, shared.policy.lease.as_duration(), Resend::InBackground);
    let result = match how {
        Surrender::Release => release(store, run, within, resend).await.map(drop),
        Surrender::Abandon => abandon(store, run, within, resend).await.map(drop),
    };
    if let Err(error) = result {
        observe::unsettled(run, &error);
    }
}
