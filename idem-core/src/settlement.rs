//! [`Settlement`]: how a run ends at the store, and the sending of it.

use std::time::Duration;

use crate::attempt::Ownership;
use crate::call::{Resend, call};
use crate::{
    AbandonOutcome, Answer, CompleteOutcome, Completion, Operation, ReleaseOutcome, ReservationStore,
    StoreError, StoreErrorKind, observe,
};

/// What is to be done at the store at the end of a run.
#[derive(Clone, Debug)]
pub(crate) enum Settlement {
    /// The run has an answer.
    Complete(Completion),
    /// Nothing happened.
    Release,
    /// Nobody knows what happened.
    Abandon,
}

/// How the store answered a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// A completion was answered; `answer` is what was sent, `NotKept` if the store had no room for the response.
    Completed {
        outcome: CompleteOutcome,
        answer: Answer,
    },
    Released(ReleaseOutcome),
    Abandoned(AbandonOutcome),
}

impl Settlement {
    pub(crate) fn operation(&self) -> Operation {
        match self {
            Self::Complete(_) => Operation::Complete,
            Self::Release => Operation::Release,
            Self::Abandon => Operation::Abandon,
        }
    }

    /// Sends the settlement, again and again with the same token, until it is acknowledged or `within` has passed.
    ///
    /// An answer that the store refuses as too large is recorded as [`Answer::NotKept`] instead: the handler ran, and
    /// the worst thing to do would be to leave that unrecorded.
    pub(crate) async fn send(
        &self,
        store: &dyn ReservationStore,
        run: &Ownership,
        within: Duration,
    ) -> Result<Settled, StoreError> {
        let operation = self.operation();
        match self {
            Self::Complete(completion) => match complete(store, run, completion, within).await {
                Err(error)
                    if error.kind == StoreErrorKind::TooLarge && completion.answer != Answer::NotKept =>
                {
                    observe::not_kept(run, &error);
                    let not_kept = Completion::new(Answer::NotKept, completion.retention);
                    complete(store, run, &not_kept, within).await
                }
                decided => decided,
            },
            Self::Release => {
                let send = || store.release(&run.key, run.owner);
                call(operation, within, Resend::Transient, send).await.map(Settled::Released)
            }
            Self::Abandon => {
                let send = || store.abandon(&run.key, run.owner);
                call(operation, within, Resend::Transient, send).await.map(Settled::Abandoned)
            }
        }
    }
}

async fn complete(
    store: &dyn ReservationStore,
    run: &Ownership,
    completion: &Completion,
    within: Duration,
) -> Result<Settled, StoreError> {
    let send = || store.complete(&run.key, run.owner, completion.clone());
    let outcome = call(Operation::Complete, within, Resend::Transient, send).await?;
    Ok(Settled::Completed { outcome, answer: completion.answer.clone() })
}
