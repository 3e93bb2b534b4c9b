//! [`Receipt`]: finds out what became of a reservation that was handed to somebody else.

use std::fmt;
use std::sync::Arc;

use crate::engine::Shared;
use crate::engine::attempt::Ownership;
use crate::engine::retry::{Resend, call};
use crate::engine::settlement;
use crate::store::{RecordView, StateView};
use crate::{Answer, Fingerprint, Operation, ReleaseOutcome, StoreError};

/// Keeps track of a reservation that was [handed out](crate::Reservation::hand_out).
///
/// A handler that takes the reservation may complete it in a transaction, release it, or drop it. Afterwards
/// [`outcome`](Self::outcome) says what the store knows, whatever the handler says.
pub struct Receipt {
    shared: Arc<Shared>,
    run: Arc<Ownership>,
    fingerprint: Fingerprint,
}

/// What became of a reservation that was handed out. Exhaustive on purpose: the code that answers a client has to decide
/// about each case.
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
    pub(crate) fn new(shared: &Arc<Shared>, run: &Arc<Ownership>, fingerprint: Fingerprint) -> Self {
        Self { shared: Arc::clone(shared), run: Arc::clone(run), fingerprint }
    }

    /// Asks the store what became of the run, within the engine's `reserve_timeout`.
    ///
    /// Call it when nobody uses the reservation any more: a run that is still in flight is abandoned, so that the next
    /// request runs at once.
    pub async fn outcome(&self) -> ReceiptOutcome {
        let within = self.shared.policy.reserve_timeout;
        let get = || self.shared.store.get(&self.run.key);
        let view = match call(Operation::Get, within, Resend::Transient, get).await {
            Ok(view) => view.filter(|view| view.fingerprint == self.fingerprint),
            Err(error) => return ReceiptOutcome::Unknown(error),
        };
        match view {
            Some(RecordView { state: StateView::Completed { answer, .. }, .. }) => {
                ReceiptOutcome::Completed(answer)
            }
            Some(record) if record.fence == self.run.fence => {
                if !record.can_be_taken_over() {
                    // What is not acknowledged goes on in the background: the reservation was dropped.
                    let store = &*self.shared.store;
                    drop(settlement::abandon(store, &self.run, within, Resend::Transient).await);
                }
                ReceiptOutcome::NotCompleted
            }
            // A key that was taken over has a further attempt; one that was released and reserved again has not.
            Some(record) if record.attempt > self.run.number => ReceiptOutcome::LeaseLost,
            Some(_) => ReceiptOutcome::ReservedAgain,
            None => self.outcome_without_record().await,
        }
    }

    /// Nobody holds the key: this run gave it up, or another run did that had taken it over. A release tells which: the
    /// token that released a key is told so again.
    async fn outcome_without_record(&self) -> ReceiptOutcome {
        let within = self.shared.policy.reserve_timeout;
        let store = &*self.shared.store;
        match settlement::release(store, &self.run, within, Resend::Transient).await {
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
