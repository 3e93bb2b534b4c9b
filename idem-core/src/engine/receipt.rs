//! [`Receipt`]: finds out what became of a reservation that was passed on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::Answer;
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::run::Run;
use crate::engine::settlement;
use crate::engine::shared::Shared;
use crate::error::{Operation, StoreError};
use crate::fingerprint::Fingerprint;
use crate::store::{RecordView, ReleaseOutcome, StateView};

/// How long a store may take at least to say what became of a run.
const MIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps track of a reservation that was [handed out](crate::Reservation::hand_out).
///
/// A handler that gets the reservation may complete it in a transaction, release it, or drop it. Afterwards
/// [`outcome`](Self::outcome) says what the store knows, whatever the handler says.
pub struct Receipt {
    shared: Arc<Shared>,
    run: Arc<Run>,
    fingerprint: Fingerprint,
}

/// What became of a reservation that was handed out. Exhaustive on purpose: code that answers a client has to handle
/// each variant.
#[derive(Clone, Debug)]
#[must_use = "it says what the request's answer is"]
pub enum ReceiptOutcome {
    /// The request was completed, by this run or by one that took the key over. This is its answer.
    Completed(Answer),
    /// The run did not complete. Its key is free, or can be taken over at once.
    NotCompleted,
    /// The run released its key without completing, and another run of the request has reserved it since.
    ReservedAgain,
    /// The key was lost to another run, which has not completed.
    LeaseLost,
    /// The store could not be asked.
    Unknown(StoreError),
}

impl Receipt {
    pub(crate) fn new(shared: &Arc<Shared>, run: &Arc<Run>, fingerprint: Fingerprint) -> Self {
        Self { shared: Arc::clone(shared), run: Arc::clone(run), fingerprint }
    }

    /// Asks the store what became of the run. Takes at most the engine's `reserve_timeout`, and at least 5 seconds if the
    /// store is silent, for each of at most two operations: a client waits for the answer, and without it the answer may
    /// be wrong.
    ///
    /// Call it when nothing uses the reservation any more: a run that is still in flight is abandoned, so that the next
    /// request runs at once.
    pub async fn outcome(&self) -> ReceiptOutcome {
        let timeout = self.timeout();
        let get = || self.shared.store.get(&self.run.key);
        let view = match retry(Operation::Get, timeout, RetryPolicy::IfTransient, get).await {
            Ok(view) => view.filter(|view| view.fingerprint == self.fingerprint),
            Err(error) => return ReceiptOutcome::Unknown(error),
        };
        match view {
            Some(RecordView { state: StateView::Completed { answer, .. }, .. }) => {
                ReceiptOutcome::Completed(answer)
            }
            Some(record) if record.fence == self.run.fence => {
                if !record.can_be_taken_over() {
                    // The engine gives the key up: the run has lost it, for its own handler too, before that is sent.
                    self.run.lose();
                    // If this fails, the reservation's own abandon is still being retried in the background.
                    let store = &*self.shared.store;
                    drop(settlement::abandon(store, &self.run, timeout, RetryPolicy::IfTransient).await);
                }
                ReceiptOutcome::NotCompleted
            }
            // A takeover counts as a further attempt. A reservation after a release does not.
            Some(record) if record.attempt > self.run.attempt => ReceiptOutcome::LeaseLost,
            Some(_) => ReceiptOutcome::ReservedAgain,
            None => self.outcome_without_record().await,
        }
    }

    fn timeout(&self) -> Duration {
        self.shared.settings.reserve_timeout.max(MIN_TIMEOUT)
    }

    /// No run of this request owns the key: this run released it, or another one that had taken it over. A second release
    /// tells which, since it is repeatable only with the token that released the key.
    async fn outcome_without_record(&self) -> ReceiptOutcome {
        let timeout = self.timeout();
        let store = &*self.shared.store;
        match settlement::release(store, &self.run, timeout, RetryPolicy::IfTransient).await {
            Ok(ReleaseOutcome::Lost) => ReceiptOutcome::LeaseLost,
            _ => ReceiptOutcome::NotCompleted,
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("key", &self.run.key).finish_non_exhaustive()
    }
}
