//! [`Reservation`]: the owner's guard of a key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::engine::Shared;
use crate::engine::attempt::{Lease, Ownership};
use crate::engine::heartbeat::Ticket;
use crate::engine::receipt::Receipt;
use crate::engine::retry::{Resend, call};
use crate::engine::settlement::{self, Settlement, Surrender};
use crate::engine::shutdown::Active;
use crate::engine::single_flight::{Lead, Verdict};
use crate::store::{Completion, OwnerToken, Span, StateView};
use crate::{
    AbandonOutcome, Answer, Attempt, CompleteOutcome, FencingToken, Fingerprint, Key, Operation,
    ReleaseOutcome, RenewOutcome, StoreError, observe,
};

/// A key that is yours: run, then [`complete`](Self::complete), [`release`](Self::release) or
/// [`abandon`](Self::abandon) it. Made by [`Engine::reserve`](crate::Engine::reserve).
///
/// Its lease is renewed until then. Dropped without any of the three it is *abandoned* in the background, so that the
/// next caller may run at once and is told that something may have happened. That needs the tokio runtime in which the
/// reservation was made; without one, or if it is shutting down, the lease has to run out.
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
    guard: Guard,
}

impl Reservation {
    /// Which attempt this is, and what the handler may ask about it.
    pub fn attempt(&self) -> &Attempt {
        &self.guard.attempt
    }

    /// Stores the run's answer. Sent again with the same token until the engine's `complete_timeout`; an answer that
    /// is too large for the store is recorded as [`Answer::NotKept`].
    ///
    /// From the call on it is decided: if the future is dropped, even unpolled, the completion goes on in the
    /// background.
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
    /// From the call on it is decided: if the future is dropped or fails, the release goes on in the background.
    #[must_use = "await it to learn whether the key was still yours"]
    pub fn release(mut self) -> impl Future<Output = Result<ReleaseOutcome, StoreError>> + Send {
        self.guard.decide(Settlement::Surrender(Surrender::Release));
        async move { self.guard.release().await }
    }

    /// Lets the next caller in at once, and tells it that something may have happened.
    ///
    /// From the call on it is decided: if the future is dropped or fails, it goes on in the background.
    #[must_use = "await it to learn whether the key was still yours"]
    pub fn abandon(mut self) -> impl Future<Output = Result<AbandonOutcome, StoreError>> + Send {
        self.guard.decide(Settlement::Surrender(Surrender::Abandon));
        async move { self.guard.abandon().await }
    }

    /// Renews the lease now, beside the heartbeat: the way to know that the key is still yours before a step that
    /// cannot be undone.
    pub async fn renew(&self) -> Result<RenewOutcome, StoreError> {
        let (shared, run) = (self.guard.shared(), self.guard.run());
        let policy = &shared.policy;
        let mut sent_at = Instant::now();
        let outcome = call(Operation::Renew, policy.reserve_timeout, Resend::Unknown, || {
            sent_at = Instant::now();
            shared.store.renew(&run.key, run.owner, policy.lease)
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

    /// [`complete`](Self::complete), and if the key was lost, a look for the answer that was accepted in its place.
    ///
    /// From the call on it is decided, as with `complete`.
    #[must_use = "await it to learn whose answer is the request's"]
    pub fn finish(mut self, answer: impl Into<Answer>) -> impl Future<Output = FinishOutcome> + Send {
        let completion = self.guard.decide_completion(answer.into());
        async move { self.guard.finish(completion).await }
    }

    /// The reserved key.
    pub fn key(&self) -> &Key {
        &self.guard.run().key
    }

    pub(crate) fn owner(&self) -> OwnerToken {
        self.guard.run().owner
    }

    pub(crate) fn retention(&self) -> Span {
        self.guard.shared().policy.retention
    }

    pub(crate) fn mark_committed(mut self, answer: &Answer) {
        self.guard.run().decide();
        self.guard.unsettled = None;
        self.guard.accepted(answer);
    }

    /// The reservation, to be handed to a handler; and a receipt that finds out what became of it.
    pub fn hand_out(self) -> (Self, Receipt) {
        let guard = &self.guard;
        let receipt = Receipt::new(guard.active.shared(), guard.attempt.ownership(), guard.fingerprint);
        (self, receipt)
    }

    /// Takes charge of a granted key: from here on it is renewed, and settled even if the caller goes away.
    pub(crate) fn new(
        key: &Key,
        fingerprint: Fingerprint,
        grant: Grant,
        runtime: Option<Handle>,
        mut lead: Option<Lead>,
        active: Active,
    ) -> Self {
        let lease = Lease::granted(grant.sent_at, grant.lease_left);
        let run = Arc::new(Ownership::granted(key, grant.owner, grant.fence, grant.attempt, lease));
        if let Some(lead) = &mut lead {
            lead.run(&run);
        }
        if run.number > 1 {
            observe::takeover(&run);
        }
        let heartbeat = &active.shared().heartbeat;
        let ticket =
            runtime.as_ref().map(|runtime| heartbeat.register(runtime, Arc::clone(&run), grant.sent_at));
        let unsettled = Some(Settlement::Surrender(Surrender::Abandon));
        let (attempt, lead) = (Attempt::new(run), lead.map(Box::new));
        Self { guard: Guard { active, attempt, fingerprint, runtime, ticket, unsettled, lead } }
    }

    /// Releases the key in the background: the handler never ran.
    pub(crate) fn give_back(mut self) {
        self.guard.decide(Settlement::Surrender(Surrender::Release));
    }

    /// [`complete`](Self::complete), with the answer that was recorded: it may be `NotKept`.
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
            .field("key", &self.guard.run().key)
            .field("attempt", &self.guard.attempt)
            .finish_non_exhaustive()
    }
}

/// How [`Reservation::finish`] ended. Exhaustive on purpose: whoever answers a client has to decide about each.
#[derive(Clone, Debug)]
#[must_use = "it says whose answer is the request's"]
pub enum FinishOutcome {
    /// The answer is stored, or recorded as not kept because the store called it too large.
    Accepted,
    /// The key was lost, and another attempt's answer was accepted: that one is the request's.
    Superseded(Answer),
    /// The key was lost, and no accepted answer was found: another attempt may be running.
    LeaseLost,
    /// The store did not acknowledge the completion in time.
    Unrecorded(StoreError),
}

/// What the store said when it granted a key.
#[derive(Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) owner: OwnerToken,
    pub(crate) attempt: u32,
    pub(crate) fence: FencingToken,
    pub(crate) lease_left: Duration,
    /// When the reservation was sent.
    pub(crate) sent_at: Instant,
}

/// Sees to it that a run is settled, whatever happens to the future that runs it.
///
/// INV-1: `unsettled` is always what has to be done if the guard is dropped now. It is decided before anything is
/// sent, and cleared only when that was acknowledged or given up.
/// INV-2: a run whose key is to be released or abandoned has lost it, for its own handler too, before that is sent;
/// and is no longer renewed.
struct Guard {
    active: Active,
    attempt: Attempt,
    fingerprint: Fingerprint,
    runtime: Option<Handle>,
    ticket: Option<Ticket>,
    unsettled: Option<Settlement>,
    /// Boxed: most runs have none, and the guard is moved about.
    lead: Option<Box<Lead>>,
}

impl Guard {
    fn shared(&self) -> &Shared {
        self.active.shared()
    }

    fn run(&self) -> &Ownership {
        self.attempt.ownership()
    }

    /// Decides how the run ends.
    fn decide(&mut self, settlement: Settlement) {
        self.run().decide();
        if matches!(settlement, Settlement::Surrender(_)) {
            self.stop_renewing();
            self.run().lose();
        }
        self.unsettled = Some(settlement);
    }

    fn decide_completion(&mut self, answer: Answer) -> Completion {
        let completion = Completion::new(answer, self.shared().policy.retention);
        self.decide(Settlement::Complete(completion.clone()));
        completion
    }

    /// Sends the completion that was decided. When its time is up, it is given up.
    async fn complete(&mut self, completion: Completion) -> Result<(CompleteOutcome, Answer), StoreError> {
        let shared = self.active.shared();
        let within = shared.policy.complete_timeout;
        let result = settlement::complete(&*shared.store, self.attempt.ownership(), completion, within).await;
        self.unsettled = None;
        self.stop_renewing();
        match &result {
            Ok((CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted, answer)) => {
                self.accepted(answer);
            }
            Ok((CompleteOutcome::AnswerConflict | CompleteOutcome::Lost, _)) => {
                observe::lease_lost(self.attempt.ownership());
                self.run().lose();
            }
            Err(error) => observe::unrecorded(self.attempt.ownership(), error),
        }
        // Without an answer, one of the waiters takes the lead and asks the store.
        self.lead = None;
        result
    }

    /// [`complete`](Self::complete), and if the key was lost, a look for the answer that was accepted in its place.
    async fn finish(&mut self, completion: Completion) -> FinishOutcome {
        match self.complete(completion).await {
            Ok((CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted, _)) => {
                FinishOutcome::Accepted
            }
            Ok((CompleteOutcome::AnswerConflict | CompleteOutcome::Lost, _)) => {
                match Box::pin(self.accepted_answer()).await {
                    Some(answer) => FinishOutcome::Superseded(answer),
                    None => FinishOutcome::LeaseLost,
                }
            }
            Err(error) => FinishOutcome::Unrecorded(error),
        }
    }

    /// Tells those who wait in this process.
    fn accepted(&mut self, answer: &Answer) {
        if let Some(lead) = self.lead.take() {
            lead.land(Verdict::Answered(answer.clone()));
        }
    }

    /// Sends the release that was decided. When the caller's time is up, it goes on in the background.
    async fn release(&mut self) -> Result<ReleaseOutcome, StoreError> {
        let shared = self.active.shared();
        let within = shared.policy.reserve_timeout;
        let result =
            settlement::release(&*shared.store, self.attempt.ownership(), within, Resend::Transient).await;
        if result.is_ok() {
            self.unsettled = None;
        }
        self.lead = None;
        result
    }

    /// Sends the abandon that was decided. When the caller's time is up, it goes on in the background.
    async fn abandon(&mut self) -> Result<AbandonOutcome, StoreError> {
        let shared = self.active.shared();
        let within = shared.policy.reserve_timeout;
        let result =
            settlement::abandon(&*shared.store, self.attempt.ownership(), within, Resend::Transient).await;
        if result.is_ok() {
            self.unsettled = None;
        }
        self.lead = None;
        result
    }

    fn stop_renewing(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared().heartbeat.remove(ticket);
        }
    }

    /// The answer that the store holds for this request, if a run of it was accepted.
    async fn accepted_answer(&self) -> Option<Answer> {
        let shared = self.shared();
        let send = || shared.store.get(&self.run().key);
        let view =
            call(Operation::Get, shared.policy.reserve_timeout, Resend::Transient, send).await.ok()??;
        match view.state {
            StateView::Completed { answer, .. } if view.fingerprint == self.fingerprint => Some(answer),
            StateView::Completed { .. } | StateView::InFlight { .. } => None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(settlement) = self.unsettled.take() else {
            self.stop_renewing();
            return;
        };
        self.decide(settlement.clone());
        self.unsettled = None;
        // Everything that is left to do moves into the task. It is settled as far as this code is concerned, whatever
        // becomes of the task; its ticket goes with it, and is given back by the branch above.
        let mut rest = Self {
            active: Active::count(self.active.shared()),
            attempt: self.attempt.clone(),
            fingerprint: self.fingerprint,
            runtime: None,
            ticket: self.ticket.take(),
            unsettled: None,
            lead: self.lead.take(),
        };
        let background = async move {
            match settlement {
                Settlement::Complete(completion) => drop(rest.complete(completion).await),
                Settlement::Surrender(how) => {
                    settlement::surrender_in_background(rest.shared(), rest.run(), how).await;
                }
            }
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(background)),
            None => drop(background),
        }
    }
}
