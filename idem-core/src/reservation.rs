//! [`Reservation`]: the owner's guard of a key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::attempt::{Lease, Ownership};
use crate::call::{Resend, call};
use crate::engine::Shared;
use crate::flight::{Lead, Verdict};
use crate::heartbeat::Ticket;
use crate::settlement::{Settled, Settlement};
use crate::shutdown::Active;
use crate::{
    AbandonOutcome, Answer, Attempt, CompleteOutcome, Completion, FencingToken, Fingerprint, Key, Operation,
    OwnerToken, ReleaseOutcome, RenewOutcome, StateView, StoreError, check_lease, observe,
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
/// use idem_core::{Admission, Fingerprint, Key, Response};
///
/// let key = Key::new("queue/invoices", "message-1187")?;
/// if let Admission::Granted(reservation) = engine.reserve(&key, &Fingerprint::of(["invoice 1187"])).await? {
///     // .. send the invoice ..
///     reservation.complete(Response::bytes("sent")).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a reservation that is dropped is abandoned"]
pub struct Reservation {
    attempt: Attempt,
    guard: Guard,
}

impl Reservation {
    /// Which attempt this is, and what the handler may ask about it.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Stores the run's answer. Sent again with the same token until the engine's `complete_timeout`; an answer that
    /// is too large for the store is recorded as [`Answer::NotKept`].
    ///
    /// If this future is dropped, the completion goes on in the background.
    pub async fn complete(mut self, answer: impl Into<Answer>) -> Result<CompleteOutcome, StoreError> {
        match self.guard.settle(self.completion(answer.into())).await? {
            Settled::Completed { outcome, .. } => Ok(outcome),
            Settled::Released(_) | Settled::Abandoned(_) => unreachable!("a completion was sent"),
        }
    }

    /// Frees the key: nothing happened.
    ///
    /// If this future is dropped or fails, the release goes on in the background.
    pub async fn release(mut self) -> Result<ReleaseOutcome, StoreError> {
        match self.guard.settle(Settlement::Release).await? {
            Settled::Released(outcome) => Ok(outcome),
            Settled::Completed { .. } | Settled::Abandoned(_) => unreachable!("a release was sent"),
        }
    }

    /// Lets the next caller in at once, and tells it that something may have happened.
    ///
    /// If this future is dropped or fails, it goes on in the background.
    pub async fn abandon(mut self) -> Result<AbandonOutcome, StoreError> {
        match self.guard.settle(Settlement::Abandon).await? {
            Settled::Abandoned(outcome) => Ok(outcome),
            Settled::Completed { .. } | Settled::Released(_) => unreachable!("an abandon was sent"),
        }
    }

    /// Renews the lease now, beside the heartbeat: the way to know that the key is still yours before a step that
    /// cannot be undone.
    pub async fn renew(&self) -> Result<RenewOutcome, StoreError> {
        let (shared, run) = (&self.guard.shared, self.attempt.ownership());
        let lease = shared.policy.lease;
        check_lease(lease)?;
        let mut sent = Instant::now();
        let outcome = call(Operation::Renew, shared.policy.reserve_timeout, Resend::Unknown, || {
            sent = Instant::now();
            shared.store.renew(&run.key, run.owner, lease)
        })
        .await?;
        if let Some(lease) = &run.lease {
            match outcome {
                RenewOutcome::Renewed { lease_left } => lease.renewed(sent, lease_left),
                RenewOutcome::Lost => lease.take(),
                RenewOutcome::AlreadyCompleted => {}
            }
        }
        Ok(outcome)
    }

    /// Stores the run's answer, and if the key was lost, looks for the answer that was accepted in its place.
    pub(crate) async fn finish(mut self, answer: Answer, fingerprint: &Fingerprint) -> Finished {
        match self.guard.settle(self.completion(answer)).await {
            Ok(Settled::Completed {
                outcome: CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted,
                ..
            }) => Finished::Accepted,
            Ok(_) => match self.guard.accepted_answer(fingerprint).await {
                Some(answer) => Finished::Superseded(answer),
                None => Finished::LeaseLost,
            },
            Err(error) => Finished::Unrecorded(error),
        }
    }

    fn completion(&self, answer: Answer) -> Settlement {
        Settlement::Complete(Completion::new(answer, self.guard.shared.policy.retention))
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("key", &self.attempt.ownership().key)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// How [`Reservation::finish`] ended.
pub(crate) enum Finished {
    /// The answer is stored.
    Accepted,
    /// The key was lost, and another attempt's answer was accepted.
    Superseded(Answer),
    /// The key was lost, and nothing has been accepted yet.
    LeaseLost,
    /// The store did not acknowledge.
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
struct Guard {
    shared: Arc<Shared>,
    run: Arc<Ownership>,
    runtime: Option<Handle>,
    ticket: Option<Ticket>,
    unsettled: Option<Settlement>,
    lead: Option<Lead>,
    active: Option<Active>,
}

impl Reservation {
    /// Takes charge of a granted key: from here on it is renewed, and settled even if the caller goes away.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        key: &Key,
        grant: Grant,
        runtime: Option<Handle>,
        lead: Option<Lead>,
        active: Active,
    ) -> Self {
        let lease = Lease::granted(grant.sent_at, grant.lease_left);
        if let Some(lead) = &lead {
            lead.busy_until(lease.ends());
        }
        let run = Arc::new(Ownership {
            key: key.clone(),
            owner: grant.owner,
            fence: grant.fence,
            number: grant.attempt,
            lease: Some(lease),
        });
        if run.number > 1 {
            observe::takeover(&run);
        }
        let ticket = runtime
            .as_ref()
            .map(|runtime| shared.heartbeat.register(runtime, Arc::clone(&run), grant.sent_at));
        let guard = Guard {
            shared: Arc::clone(shared),
            run: Arc::clone(&run),
            runtime,
            ticket,
            unsettled: Some(Settlement::Abandon),
            lead,
            active: Some(active),
        };
        Self { attempt: Attempt::new(run), guard }
    }
}

impl Guard {
    /// Sends a settlement and waits for its acknowledgement.
    ///
    /// A release or an abandon that is not acknowledged in time goes on in the background when the guard is dropped;
    /// a completion has had its time then.
    async fn settle(&mut self, settlement: Settlement) -> Result<Settled, StoreError> {
        let policy = &self.shared.policy;
        let (within, is_completion) = match settlement {
            Settlement::Complete(_) => (policy.complete_timeout, true),
            Settlement::Release | Settlement::Abandon => (policy.reserve_timeout, false),
        };
        let settlement = self.unsettled.insert(settlement);
        let result = settlement.send(&*self.shared.store, &self.run, within).await;
        if let (Err(error), true) = (&result, is_completion) {
            observe::unrecorded(&self.run, error);
        }
        if result.is_ok() || is_completion {
            self.unsettled = None;
        }
        self.leave(&result);
        result
    }

    /// Ends the renewal, and lets the waiters go on.
    fn leave(&mut self, result: &Result<Settled, StoreError>) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.heartbeat.remove(ticket);
        }
        match (result, self.lead.take()) {
            (
                Ok(Settled::Completed {
                    outcome: CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted,
                    answer,
                }),
                Some(lead),
            ) => lead.land(Verdict::Answered(answer.clone())),
            // Without an answer, one of the waiters takes the lead and asks the store.
            (_, lead) => drop(lead),
        }
    }

    /// The answer that the store holds for this request, if a run of it was accepted.
    async fn accepted_answer(&self, fingerprint: &Fingerprint) -> Option<Answer> {
        let shared = &self.shared;
        observe::lease_lost(&self.run);
        let send = || shared.store.get(&self.run.key);
        let view =
            call(Operation::Get, shared.policy.reserve_timeout, Resend::Transient, send).await.ok()??;
        match view.state {
            StateView::Completed { answer, .. } if view.fingerprint == *fingerprint => Some(answer),
            StateView::Completed { .. } | StateView::InFlight { .. } => None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(settlement) = self.unsettled.take() else { return };
        // Everything that is needed moves into the task, which therefore never meets this branch again.
        let mut rest = Self {
            shared: Arc::clone(&self.shared),
            run: Arc::clone(&self.run),
            runtime: None,
            ticket: self.ticket.take(),
            unsettled: None,
            lead: self.lead.take(),
            active: self.active.take(),
        };
        let background = async move {
            let within = rest.shared.policy.complete_timeout;
            let result = settlement.send(&*rest.shared.store, &rest.run, within).await;
            if let Err(error) = &result {
                observe::unsettled(&rest.run, settlement.operation(), error);
            }
            rest.leave(&result);
        };
        match &self.runtime {
            Some(runtime) => drop(runtime.spawn(background)),
            None => drop(background),
        }
    }
}
