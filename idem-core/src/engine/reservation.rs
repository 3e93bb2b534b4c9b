//! [`Reservation`]: a key that the caller owns.

use std::fmt;

use tokio::time::Instant;

use crate::answer::Answer;
use crate::engine::attempt::Attempt;
use crate::engine::receipt::Receipt;
use crate::engine::reserve::{Grant, Request};
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::settle_on_drop::SettleOnDrop;
use crate::engine::settlement::Settlement;
use crate::engine::single_flight::Leader;
use crate::engine::tracker::RunGuard;
use crate::error::{Operation, StoreError};
use crate::key::Key;
use crate::store::{AbandonOutcome, CompleteOutcome, OwnerToken, ReleaseOutcome, RenewOutcome, Span};

/// A key that is yours: run, then [`complete`](Self::complete), [`release`](Self::release) or
/// [`abandon`](Self::abandon) it. Returned by [`Engine::reserve`](crate::Engine::reserve).
///
/// Its lease is renewed until then. A reservation that is dropped without any of the three is *abandoned* in the
/// background: the next caller may run at once, and sees that something may have happened. This needs the tokio runtime
/// in which the reservation was made. Without one, or if that runtime shuts down, the lease has to run out.
///
/// ```no_run
/// # async fn example(engine: idem_core::Engine) -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::{Admission, CompleteOutcome, Fingerprint, Key, StoredValue};
///
/// let key = Key::new("queue/invoices", "message-1187")?;
/// if let Admission::Granted(reservation) = engine.reserve(&key, &Fingerprint::from_parts(["invoice 1187"])).await? {
///     // .. send the invoice ..
///     reservation.complete(StoredValue::bytes("sent")).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a reservation that is dropped is abandoned"]
pub struct Reservation {
    guard: SettleOnDrop,
}

impl Reservation {
    /// The attempt: its number, its fence, and whether its lease is lost.
    pub fn attempt(&self) -> &Attempt {
        &self.guard.attempt
    }

    /// Stores the run's answer. Retried with the same token until the engine's `complete_timeout`. An answer that is too
    /// large for the store is recorded as [`Answer::NotKept`].
    ///
    /// The call decides how the run ends: if the future is dropped, even before its first poll, the completion continues
    /// in the background.
    #[must_use = "await it to learn whether the answer was accepted"]
    pub fn complete(
        mut self,
        answer: impl Into<Answer>,
    ) -> impl Future<Output = Result<CompleteOutcome, StoreError>> + Send {
        let completion = self.guard.decide_completion(answer.into());
        async move { self.guard.complete(completion).await.map(|(outcome, _)| outcome) }
    }

    /// Frees the key: nothing happened.
    ///
    /// The call decides how the run ends: if the future is dropped or fails, the release continues in the background.
    #[must_use = "await it to learn whether the key was still yours"]
    pub fn release(mut self) -> impl Future<Output = Result<ReleaseOutcome, StoreError>> + Send {
        self.guard.decide(Settlement::Release);
        async move { self.guard.release().await }
    }

    /// Lets the next caller run at once, as a further attempt: something may have happened.
    ///
    /// The call decides how the run ends: if the future is dropped or fails, the abandon continues in the background.
    #[must_use = "await it to learn whether the key was still yours"]
    pub fn abandon(mut self) -> impl Future<Output = Result<AbandonOutcome, StoreError>> + Send {
        self.guard.decide(Settlement::Abandon);
        async move { self.guard.abandon().await }
    }

    /// Renews the lease now, in addition to the heartbeat. Call it before a step that cannot be undone, to know that the
    /// key is still yours.
    pub async fn renew(&self) -> Result<RenewOutcome, StoreError> {
        let (shared, run) = (&self.guard.shared, self.guard.run());
        let settings = &shared.settings;
        let mut sent_at = Instant::now();
        let outcome = retry(Operation::Renew, settings.reserve_timeout, RetryPolicy::IfUnknown, || {
            sent_at = Instant::now();
            shared.store.renew(&run.key, run.owner, settings.lease)
        })
        .await?;
        if let Some(lease) = &run.lease {
            match outcome {
                RenewOutcome::Renewed { lease_left } => lease.renewed(sent_at, lease_left),
                RenewOutcome::Lost => lease.lose(),
                RenewOutcome::AlreadyCompleted => {}
            }
        }
        Ok(outcome)
    }

    /// As [`complete`](Self::complete). If the key was lost, it also looks for the answer that was accepted instead.
    ///
    /// The call decides how the run ends, as with `complete`.
    #[must_use = "await it to learn which answer is the request's"]
    pub fn finish(mut self, answer: impl Into<Answer>) -> impl Future<Output = FinishOutcome> + Send {
        let completion = self.guard.decide_completion(answer.into());
        async move {
            match self.guard.complete(completion).await {
                Ok((CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted, _)) => {
                    FinishOutcome::Accepted
                }
                Ok((CompleteOutcome::AnswerConflict | CompleteOutcome::Lost, _)) => {
                    match Box::pin(self.guard.accepted_answer()).await {
                        Some(answer) => FinishOutcome::Superseded(answer),
                        None => FinishOutcome::LeaseLost,
                    }
                }
                Err(error) => FinishOutcome::Unrecorded(error),
            }
        }
    }

    /// The reserved key.
    pub fn key(&self) -> &Key {
        &self.guard.run().key
    }

    /// Returns the reservation, to pass to a handler, and a receipt that finds out what became of it.
    pub fn hand_out(self) -> (Self, Receipt) {
        let guard = &self.guard;
        let receipt = Receipt::new(&guard.shared, guard.attempt.run(), guard.fingerprint);
        (self, receipt)
    }

    pub(crate) fn new(request: Request<'_>, grant: Grant, leader: Option<Leader>, tracked: RunGuard) -> Self {
        Self { guard: SettleOnDrop::new(request, grant, leader, tracked) }
    }

    pub(crate) fn owner(&self) -> OwnerToken {
        self.guard.run().owner
    }

    pub(crate) fn retention(&self) -> Span {
        self.guard.shared.settings.retention
    }

    pub(crate) fn mark_committed(mut self, answer: &Answer) {
        self.guard.mark_committed(answer);
    }

    /// Releases the key in the background: the handler never ran.
    pub(crate) fn release_in_background(mut self) {
        self.guard.decide(Settlement::Release);
    }

    /// As [`complete`](Self::complete). Returns the answer that was recorded, too: it may be `NotKept`.
    pub(crate) async fn complete_as(
        mut self,
        answer: Answer,
    ) -> Result<(CompleteOutcome, Answer), StoreError> {
        let completion = self.guard.decide_completion(answer);
        self.guard.complete(completion).await
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("key", self.key())
            .field("attempt", &self.guard.attempt)
            .finish_non_exhaustive()
    }
}

/// How [`Reservation::finish`] ended. Exhaustive on purpose: code that answers a client has to handle each variant.
#[derive(Clone, Debug)]
#[must_use = "it says which answer is the request's"]
pub enum FinishOutcome {
    /// The answer is stored, or recorded as not kept because it is too large for the store.
    Accepted,
    /// The key was lost, and another attempt's answer was accepted. That one is the request's answer.
    Superseded(Answer),
    /// The key was lost, and no accepted answer was found: another attempt may be running.
    LeaseLost,
    /// The store did not acknowledge the completion in time.
    Unrecorded(StoreError),
}
