//! Getting in: from a key to an [`Admission`], through the store and, under `Wait`, through the shared flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::attempt::Ownership;
use crate::call::{Resend, call};
use crate::engine::Shared;
use crate::flight::{Boarding, Lead, Verdict};
use crate::reservation::{Grant, Reservation};
use crate::settlement::Settlement;
use crate::shutdown::{Active, Activity};
use crate::{
    Admission, Answer, Attempt, Effect, Fingerprint, InFlightPolicy, Key, Operation, OwnerToken, Reserve,
    ReserveOutcome, StateView, StoreError, StoreErrorKind, StoreFailurePolicy, observe, random,
};

/// The first pause between two looks at a record that another process owns. Doubled each time, up to
/// [`LONGEST_POLL`], with jitter.
const FIRST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// How often a reservation that turns out stale is tried with a new token. A token is stale only if its own release
/// overtook it, so a second one is already beyond what can happen.
const STALE_TRIES: usize = 3;

/// Asks for the key, as the engine's policies say.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    key: &Key,
    fingerprint: &Fingerprint,
) -> Result<Admission, StoreError> {
    let active = Activity::enter(shared)?;
    let caller = Caller { shared, key, fingerprint };
    let admission = match shared.policy.in_flight {
        InFlightPolicy::Reject => match caller.reserve().await {
            Ok(Reserved::Granted(grant)) => return Ok(caller.granted(grant, None, active)),
            Ok(Reserved::InFlight { lease_left }) => Ok(Admission::InFlight { retry_after: lease_left }),
            Ok(Reserved::Decided(verdict)) => Caller::decided(verdict),
            Err(error) => Err(error),
        },
        InFlightPolicy::Wait { at_most } => {
            let deadline = Instant::now() + at_most;
            match shared.flights.board(key, *fingerprint, sleep_until(deadline)).await {
                Boarding::Lead(lead) => return caller.lead(lead, deadline, active).await,
                Boarding::Verdict(verdict) => Caller::decided(verdict),
                Boarding::Elapsed { retry_after } => Ok(Admission::InFlight { retry_after }),
            }
        }
    };
    caller.or_fail_open(admission)
}

/// One caller of one request.
struct Caller<'a> {
    shared: &'a Arc<Shared>,
    key: &'a Key,
    fingerprint: &'a Fingerprint,
}

/// What the store answered a reservation.
enum Reserved {
    Granted(Grant),
    InFlight {
        lease_left: Duration,
    },
    /// Something that is true for every caller of this request.
    Decided(Verdict),
}

impl Caller<'_> {
    /// Reserves, or watches the owner until it is done, gone, or the deadline has come.
    async fn lead(self, lead: Lead, deadline: Instant, active: Active) -> Result<Admission, StoreError> {
        let mut pause = FIRST_POLL;
        loop {
            let lease_left = match self.reserve().await {
                Ok(Reserved::Granted(grant)) => return Ok(self.granted(grant, Some(lead), active)),
                Ok(Reserved::InFlight { lease_left }) => lease_left,
                Ok(Reserved::Decided(verdict)) => {
                    lead.land(verdict.clone());
                    return Self::decided(verdict);
                }
                Err(error) => {
                    lead.land(Verdict::Failed(error.clone()));
                    return self.or_fail_open(Err(error));
                }
            };
            match self.watch(&lead, lease_left, &mut pause, deadline).await {
                Watched::Free => {}
                Watched::Decided(verdict) => {
                    lead.land(verdict.clone());
                    return self.or_fail_open(Self::decided(verdict));
                }
                Watched::Elapsed { lease_left } => {
                    return Ok(Admission::InFlight { retry_after: lease_left });
                }
            }
        }
    }

    /// Looks at the record until it can be reserved, is decided, or the deadline has come. Between two looks it pauses,
    /// at most until the owner's lease ends.
    async fn watch(
        &self,
        lead: &Lead,
        mut lease_left: Duration,
        pause: &mut Duration,
        deadline: Instant,
    ) -> Watched {
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Watched::Elapsed { lease_left };
            }
            lead.busy_until(now + lease_left);
            sleep(random::jittered(*pause).min(lease_left).min(deadline - now)).await;
            *pause = (*pause * 2).min(LONGEST_POLL);

            let send = || self.shared.store.get(self.key);
            let within = self.shared.policy.reserve_timeout;
            let view = match call(Operation::Get, within, Resend::Transient, send).await {
                Ok(Some(view)) => view,
                Ok(None) => return Watched::Free,
                Err(error) => return Watched::Decided(Verdict::Failed(error)),
            };
            if view.fingerprint != *self.fingerprint {
                return Watched::Decided(Verdict::FingerprintMismatch);
            }
            if view.is_up_for_takeover() {
                return Watched::Free;
            }
            match view.state {
                StateView::Completed { answer, .. } => return Watched::Decided(Verdict::Answered(answer)),
                StateView::InFlight { lease_left: left, .. } => lease_left = left,
            }
        }
    }

    /// Asks the store for the key, under a new token.
    async fn reserve(&self) -> Result<Reserved, StoreError> {
        for _ in 0..STALE_TRIES {
            let outcome = self.reserve_as(OwnerToken::random()).await?;
            if let Some(reserved) = outcome {
                return Ok(reserved);
            }
        }
        Err(StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, Operation::Reserve)
            .with_source("the store calls every new token stale"))
    }

    /// Asks the store for the key; `None` if the token is stale.
    async fn reserve_as(&self, owner: OwnerToken) -> Result<Option<Reserved>, StoreError> {
        let policy = &self.shared.policy;
        let request = Reserve::new(owner, *self.fingerprint, policy.lease)
            .record_ttl(policy.record_ttl)
            .on_expired_lease(policy.expired_lease);
        let mut sent_at = Instant::now();
        let mut given_up = GivenUp { caller: self, owner, armed: true };
        let mut sendings = 0;
        let send = || {
            if sendings > 0 {
                sent_at = Instant::now();
            }
            sendings += 1;
            self.shared.store.reserve(self.key, request.clone())
        };
        let result = call(Operation::Reserve, policy.reserve_timeout, Resend::Unknown, send).await;
        given_up.armed = matches!(&result, Err(error) if error.effect == Effect::Unknown);
        drop(given_up);

        Ok(Some(match result? {
            ReserveOutcome::Reserved { attempt, fence, lease_left } => {
                Reserved::Granted(Grant { owner, attempt, fence, lease_left, sent_at })
            }
            ReserveOutcome::Stale => return Ok(None),
            ReserveOutcome::InFlight { lease_left, .. } => Reserved::InFlight { lease_left },
            ReserveOutcome::LeaseExpired { attempt } => Reserved::Decided(Verdict::LeaseExpired { attempt }),
            ReserveOutcome::FingerprintMismatch => Reserved::Decided(Verdict::FingerprintMismatch),
            ReserveOutcome::Completed { answer, .. } => Reserved::Decided(Verdict::Answered(answer)),
        }))
    }

    fn granted(&self, grant: Grant, lead: Option<Lead>, active: Active) -> Admission {
        let runtime = Handle::try_current().ok();
        Admission::Granted(Reservation::new(self.shared, self.key, grant, runtime, lead, active))
    }

    fn decided(verdict: Verdict) -> Result<Admission, StoreError> {
        Ok(match verdict {
            Verdict::Answered(Answer::Response(response)) => Admission::Replayed(response),
            Verdict::Answered(Answer::NotKept) => Admission::NotKept,
            Verdict::FingerprintMismatch => Admission::FingerprintMismatch,
            Verdict::LeaseExpired { attempt } => Admission::LeaseExpired { attempt },
            Verdict::Failed(error) => return Err(error),
        })
    }

    /// Turns a failure of the store into an unprotected run, where the policy covers it.
    fn or_fail_open(&self, admission: Result<Admission, StoreError>) -> Result<Admission, StoreError> {
        let error = match admission {
            Ok(admission) => return Ok(admission),
            Err(error) => error,
        };
        // Only a reservation: a failed look at a record that somebody is known to own is no reason to run beside it.
        let covered = error.operation == Operation::Reserve
            && matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Timeout);
        if self.shared.policy.store_failure != StoreFailurePolicy::FailOpen || !covered {
            return Err(error);
        }
        observe::unprotected(self.key, &error);
        Ok(Admission::Unprotected(Attempt::new(Arc::new(Ownership::unprotected(self.key)))))
    }
}

/// How watching an owner ended.
enum Watched {
    /// The key may be free: reserve.
    Free,
    Decided(Verdict),
    Elapsed {
        lease_left: Duration,
    },
}

/// Releases a reservation that nobody will use: it was given up with an unknown outcome, or its caller went away
/// before the answer came. Whether it took effect or still will, the release makes it stale.
struct GivenUp<'a> {
    caller: &'a Caller<'a>,
    owner: OwnerToken,
    armed: bool,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        // Without a runtime, the lease has to run out.
        let (true, Ok(runtime)) = (self.armed, Handle::try_current()) else { return };
        let shared = Arc::clone(self.caller.shared);
        let run = Ownership { owner: self.owner, ..Ownership::unprotected(self.caller.key) };
        drop(runtime.spawn(async move {
            let within = shared.policy.complete_timeout;
            if let Err(error) = Settlement::Release.send(&*shared.store, &run, within).await {
                observe::unsettled(&run, Operation::Release, &error);
            }
        }));
    }
}
