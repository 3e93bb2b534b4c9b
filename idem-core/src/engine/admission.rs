//! Getting in: from a key to an [`Admission`], through the store and, under `Wait`, through the shared flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::backoff::Backoff;
use crate::engine::Shared;
use crate::engine::attempt::Ownership;
use crate::engine::given_up::GivenUp;
use crate::engine::reservation::{Grant, Reservation};
use crate::engine::retry::{Resend, call};
use crate::engine::settlement::Surrender;
use crate::engine::shutdown::{Active, Activity, shutting_down};
use crate::engine::single_flight::{Boarding, Lead, Verdict, Watched};
use crate::store::{OwnerToken, ReserveOutcome, ReserveRequest, StateView};
use crate::{
    Admission, Answer, Attempt, Effect, ExpiredLeasePolicy, Fingerprint, InFlightPolicy, Key, Operation,
    StoreError, StoreErrorKind, StoreFailurePolicy, observe,
};

/// The first pause between two looks at a record that another process owns. Doubled each time, up to
/// [`LONGEST_POLL`], with jitter.
const FIRST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// How often a reservation is tried that is stale, or that is over when it is granted. A new token is stale only if
/// its own release overtook it, so a second one is already beyond what can happen.
const RESERVE_TRIES: usize = 3;

/// An admission, and what has to be kept while the caller runs without protection.
pub(crate) struct Admitted {
    pub(crate) admission: Admission,
    pub(crate) unprotected: Option<Unprotected>,
}

/// Counts an unprotected run, and keeps the waiters of its flight from running beside it.
pub(crate) struct Unprotected {
    _active: Active,
    _lead: Option<Lead>,
}

/// Asks for the key, as the engine's policies say. Ends at once when the engine is shut down.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    key: &Key,
    fingerprint: &Fingerprint,
) -> Result<Admitted, StoreError> {
    let active = Activity::enter(shared)?;
    let caller = Caller::new(shared, key, fingerprint);
    tokio::select! {
        biased;
        admitted = caller.admit(active) => admitted,
        () = shared.activity.closed() => Err(shutting_down()),
    }
}

/// One caller of one request.
pub(crate) struct Caller<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) key: &'a Key,
    pub(crate) fingerprint: &'a Fingerprint,
    pub(crate) expired_lease: ExpiredLeasePolicy,
    /// What is done with a reservation that is given up.
    pub(crate) when_given_up: Surrender,
    /// Captured at the beginning, for what has to be done when the caller is gone.
    pub(crate) runtime: Option<Handle>,
}

/// What the store answered a reservation.
pub(crate) enum Reserved {
    Granted(Grant),
    InFlight {
        lease_left: Duration,
    },
    /// Something that is true for every caller of this request.
    Decided(Verdict),
}

impl<'a> Caller<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, key: &'a Key, fingerprint: &'a Fingerprint) -> Self {
        let expired_lease = shared.policy.expired_lease;
        let (when_given_up, runtime) = (Surrender::Release, Handle::try_current().ok());
        Self { shared, key, fingerprint, expired_lease, when_given_up, runtime }
    }

    async fn admit(mut self, active: Active) -> Result<Admitted, StoreError> {
        let InFlightPolicy::Wait { timeout } = self.shared.policy.in_flight else {
            return match self.reserve().await {
                Ok(Reserved::Granted(grant)) => {
                    let runtime = self.runtime.take();
                    self.granted(grant, runtime, None, active)
                }
                Ok(Reserved::InFlight { lease_left }) => Ok(in_flight(lease_left)),
                Ok(Reserved::Decided(verdict)) => decided(verdict),
                Err(error) if self.may_fail_open(&error) => Ok(self.unprotected(&error, None, active)),
                Err(error) => Err(error),
            };
        };
        // Boxed, so that those who do not wait do not carry the waiting about with them.
        Box::pin(self.wait(timeout, active)).await
    }

    async fn wait(&self, timeout: Duration, active: Active) -> Result<Admitted, StoreError> {
        let deadline = Instant::now() + timeout;
        match self.shared.flights.board(self.key, *self.fingerprint, sleep_until(deadline)).await {
            Boarding::Lead(lead) => self.lead(lead, deadline, active).await,
            Boarding::Verdict(verdict) => decided(verdict),
            Boarding::Elapsed { retry_after } => Ok(in_flight(retry_after)),
        }
    }

    /// Reserves, or watches the owner until it is done, gone, or the deadline has come. Goes on where the lead before
    /// left off.
    async fn lead(&self, mut lead: Lead, deadline: Instant, active: Active) -> Result<Admitted, StoreError> {
        loop {
            let known = lead.watched();
            if known.is_none_or(|watched| watched.may_be_free) {
                lead.ask();
                match self.reserve().await {
                    Ok(Reserved::Granted(grant)) => {
                        return self.granted(grant, self.runtime.clone(), Some(lead), active);
                    }
                    Ok(Reserved::InFlight { lease_left }) => lead.watch(next_look(known, lease_left)),
                    Ok(Reserved::Decided(verdict)) => {
                        lead.land(verdict.clone());
                        return decided(verdict);
                    }
                    // Not if an owner has been seen: then it is no longer unknown whether somebody may be running.
                    Err(error) if known.is_none() && self.may_fail_open(&error) => {
                        return Ok(self.unprotected(&error, Some(lead), active));
                    }
                    Err(error) => {
                        lead.land(Verdict::Failed(error.clone()));
                        return Err(error);
                    }
                }
            }
            match self.watch(&mut lead, deadline).await {
                Seen::MayBeFree => {}
                Seen::Decided(verdict) => {
                    lead.land(verdict.clone());
                    return decided(verdict);
                }
                Seen::Elapsed { lease_left } => return Ok(in_flight(lease_left)),
            }
        }
    }

    /// Looks at the record until it may be free, is decided, or the deadline has come.
    async fn watch(&self, lead: &mut Lead, deadline: Instant) -> Seen {
        while let Some(watched) = lead.watched() {
            sleep_until(watched.next_look.min(deadline)).await;
            let now = Instant::now();
            let elapsed = Seen::Elapsed { lease_left: watched.lease_ends.saturating_duration_since(now) };
            if now >= deadline {
                return elapsed;
            }

            lead.ask();
            let within = self.shared.policy.reserve_timeout.min(deadline - now);
            let send = || self.shared.store.get(self.key);
            let view = match call(Operation::Get, within, Resend::Transient, send).await {
                Ok(view) => view,
                // It was this caller's patience that ended, and not the store's time.
                Err(_) if Instant::now() + FIRST_POLL >= deadline => return elapsed,
                Err(error) => return Seen::Decided(Verdict::Failed(error)),
            };
            let Some(view) = view else { return may_be_free(lead, watched) };
            if view.fingerprint != *self.fingerprint {
                return Seen::Decided(Verdict::FingerprintMismatch);
            }
            match view.state {
                StateView::Completed { answer, .. } => return Seen::Decided(Verdict::Answered(answer)),
                StateView::InFlight { .. } if view.can_be_taken_over() => return may_be_free(lead, watched),
                StateView::InFlight { lease_left, .. } => lead.watch(next_look(Some(watched), lease_left)),
            }
        }
        Seen::MayBeFree
    }

    /// Asks the store for the key, under a new token.
    pub(crate) async fn reserve(&self) -> Result<Reserved, StoreError> {
        let policy = &self.shared.policy;
        let mut owner = OwnerToken::random();
        for _ in 0..RESERVE_TRIES {
            let (outcome, sent_at) = self.send(owner).await?;
            return Ok(match outcome {
                ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                    // The answer may have taken longer than the lease. Asking again with the same token renews it.
                    if policy.lease.as_duration() <= policy.reserve_timeout && sent_at.elapsed() >= lease_left
                    {
                        continue;
                    }
                    Reserved::Granted(Grant { owner, attempt, fence, lease_left, sent_at })
                }
                ReserveOutcome::Stale => {
                    owner = OwnerToken::random();
                    continue;
                }
                ReserveOutcome::InFlight { lease_left, .. } => Reserved::InFlight { lease_left },
                ReserveOutcome::LeaseExpired { attempt } => {
                    Reserved::Decided(Verdict::LeaseExpired { attempt })
                }
                ReserveOutcome::FingerprintMismatch => Reserved::Decided(Verdict::FingerprintMismatch),
                ReserveOutcome::Completed { answer, .. } => Reserved::Decided(Verdict::Answered(answer)),
            });
        }
        drop(GivenUp::new(self, owner));
        Err(StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Reserve)
            .with_source("the store grants leases that are over before they arrive; make the lease longer"))
    }

    /// Sends a reservation; and when the sending that was answered began.
    async fn send(&self, owner: OwnerToken) -> Result<(ReserveOutcome, Instant), StoreError> {
        let policy = &self.shared.policy;
        let request = ReserveRequest::new(owner, *self.fingerprint, policy.lease)
            .record_ttl(policy.record_ttl)
            .on_expired_lease(self.expired_lease);
        let mut sent_at = Instant::now();
        let mut is_first = true;
        let sending = || {
            if !std::mem::take(&mut is_first) {
                sent_at = Instant::now();
            }
            self.shared.store.reserve(self.key, request.clone())
        };
        let given_up = GivenUp::new(self, owner);
        let result = call(Operation::Reserve, policy.reserve_timeout, Resend::Unknown, sending).await;
        match &result {
            Err(error) if error.effect == Effect::Unknown => drop(given_up),
            _ => given_up.disarm(),
        }
        Ok((result?, sent_at))
    }

    /// Takes charge of a granted key, unless the engine was shut down meanwhile: then the key is given back.
    fn granted(
        &self,
        grant: Grant,
        runtime: Option<Handle>,
        lead: Option<Lead>,
        active: Active,
    ) -> Result<Admitted, StoreError> {
        let reservation = Reservation::new(self.key, *self.fingerprint, grant, runtime, lead, active);
        // Asked only now that the run is registered: a shutdown that begins after this finds it there.
        if self.shared.activity.is_closed() {
            reservation.give_back();
            return Err(shutting_down());
        }
        Ok(admitted(Admission::Granted(reservation)))
    }

    /// Whether the policy covers this failure: only that of a reservation, and only of a store that does not answer.
    fn may_fail_open(&self, error: &StoreError) -> bool {
        self.shared.policy.store_failure == StoreFailurePolicy::FailOpen
            && matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Timeout)
    }

    fn unprotected(&self, error: &StoreError, lead: Option<Lead>, active: Active) -> Admitted {
        observe::unprotected(self.key, error);
        let attempt = Attempt::new(Arc::new(Ownership::unprotected(self.key)));
        let unprotected = Unprotected { _active: active.unprotected(), _lead: lead };
        Admitted { admission: Admission::Unprotected(attempt), unprotected: Some(unprotected) }
    }
}

/// How a look at a record of another owner ended.
enum Seen {
    MayBeFree,
    Decided(Verdict),
    Elapsed { lease_left: Duration },
}

fn may_be_free(lead: &Lead, watched: Watched) -> Seen {
    lead.watch(Watched { may_be_free: true, ..watched });
    Seen::MayBeFree
}

/// When to look next at a record whose owner has `lease_left`: after a pause that doubles each time, but not long after
/// the lease has ended. Where the last look found the key free and it was not, the end of the lease is no guide.
fn next_look(before: Option<Watched>, lease_left: Duration) -> Watched {
    let mut backoff = before.map_or(Backoff::new(FIRST_POLL, LONGEST_POLL), |watched| watched.backoff);
    let pause = backoff.next_pause();
    let is_guide = before.is_none_or(|watched| !watched.may_be_free);
    let wait = if is_guide { pause.min(lease_left.max(FIRST_POLL)) } else { pause };
    let now = Instant::now();
    Watched { lease_ends: now + lease_left, next_look: now + wait, backoff, may_be_free: false }
}

fn admitted(admission: Admission) -> Admitted {
    Admitted { admission, unprotected: None }
}

fn in_flight(retry_after: Duration) -> Admitted {
    admitted(Admission::InFlight { retry_after })
}

fn decided(verdict: Verdict) -> Result<Admitted, StoreError> {
    Ok(admitted(match verdict {
        Verdict::Answered(Answer::Value(response)) => Admission::Replayed(response),
        Verdict::Answered(Answer::NotKept) => Admission::NotKept,
        Verdict::FingerprintMismatch => Admission::FingerprintMismatch,
        Verdict::LeaseExpired { attempt } => Admission::LeaseExpired { attempt },
        Verdict::Failed(error) => return Err(error),
    }))
}
