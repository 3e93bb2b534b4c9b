//! [`admit`]: from a request to an [`Admission`], through the store and, under `Wait`, through the single flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::answer::{Answer, StoredValue};
use crate::backoff::Backoff;
use crate::engine::attempt::Attempt;
use crate::engine::reservation::Reservation;
use crate::engine::reserve::{Grant, Request, Reserved};
use crate::engine::retry::{RetryPolicy, retry};
use crate::engine::run::Run;
use crate::engine::shared::Shared;
use crate::engine::single_flight::{Joined, Leader, RemoteOwner, SharedResult};
use crate::engine::tracker::{RunGuard, shutting_down};
use crate::error::{Operation, StoreError, StoreErrorKind};
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::observe;
use crate::policy::{InFlightPolicy, StoreFailurePolicy};
use crate::store::StateView;

/// The first pause between two polls of a record that another process owns. Doubled each time, up to [`LONGEST_POLL`].
const FIRST_POLL: Duration = Duration::from_millis(5);
const LONGEST_POLL: Duration = Duration::from_millis(250);

/// Whether a caller may run. Returned by [`Engine::reserve`](crate::Engine::reserve).
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the large variant is the common one, and is moved once")]
#[must_use = "an admission says whether to run, and dropping a granted one abandons the key"]
pub enum Admission {
    /// Run, then settle the reservation.
    Granted(Reservation),
    /// Run without protection: the store could not be reached, and the engine is set to
    /// [`FailOpen`](crate::StoreFailurePolicy::FailOpen).
    Unprotected(Attempt),
    /// Do not run: this is the stored answer.
    Replayed(StoredValue),
    /// Do not run: another caller runs this request now.
    InFlight {
        /// How long the other caller's lease still lasts, as far as it is known: when to ask again.
        retry_after: Duration,
    },
    /// Do not run: the key was used for another request.
    FingerprintMismatch,
    /// Do not run: the lease of an earlier attempt is over, and the engine is set to
    /// [`Refuse`](crate::ExpiredLeasePolicy::Refuse).
    LeaseExpired {
        /// The number of that attempt.
        attempt: u32,
    },
    /// Do not run: the request was executed before, but its answer was not kept.
    NotKept,
}

/// An admission, and what has to be kept while the caller runs without protection.
pub(crate) struct Admitted {
    pub(crate) admission: Admission,
    pub(crate) unprotected: Option<UnprotectedRun>,
}

/// Counts an unprotected run, and keeps the other callers of its request waiting.
pub(crate) struct UnprotectedRun {
    _tracked: RunGuard,
    _leader: Option<Leader>,
}

/// Reserves the key as the engine's settings say. Returns at once when the engine is shut down.
pub(crate) async fn admit(
    shared: &Arc<Shared>,
    key: &Key,
    fingerprint: &Fingerprint,
) -> Result<Admitted, StoreError> {
    let tracked = shared.tracker.enter()?;
    let request = Request::new(shared, key, fingerprint);
    tokio::select! {
        biased;
        admitted = ask(request, tracked) => admitted,
        () = shared.tracker.closed() => Err(shutting_down()),
    }
}

async fn ask(request: Request<'_>, tracked: RunGuard) -> Result<Admitted, StoreError> {
    if let InFlightPolicy::Wait { timeout } = request.shared.settings.in_flight {
        // Boxed, so that the futures of callers that do not wait stay small.
        return Box::pin(wait(request, timeout, tracked)).await;
    }
    match request.reserve().await {
        Ok(Reserved::Granted(grant)) => granted(request, grant, None, tracked),
        Ok(Reserved::InFlight { lease_left }) => Ok(in_flight(lease_left)),
        Ok(Reserved::Result(result)) => admitted_by(result),
        Err(error) if may_fail_open(&request, &error) => Ok(unprotected(&request, &error, None, tracked)),
        Err(error) => Err(error),
    }
}

async fn wait(request: Request<'_>, timeout: Duration, tracked: RunGuard) -> Result<Admitted, StoreError> {
    let deadline = Instant::now() + timeout;
    let single_flight = &request.shared.single_flight;
    match single_flight.join(request.key, *request.fingerprint, sleep_until(deadline)).await {
        Joined::Leader(leader) => lead(request, leader, deadline, tracked).await,
        Joined::Result(result) => admitted_by(result),
        Joined::Elapsed { retry_after } => Ok(in_flight(retry_after)),
    }
}

/// Reserves, or polls the owner's record until the owner is done, gone, or the deadline is reached. Continues where an
/// earlier leader stopped.
async fn lead(
    request: Request<'_>,
    mut leader: Leader,
    deadline: Instant,
    tracked: RunGuard,
) -> Result<Admitted, StoreError> {
    loop {
        let known = leader.remote();
        if known.is_none_or(|remote| remote.may_be_gone) {
            leader.begin_request();
            match request.reserve().await {
                Ok(Reserved::Granted(grant)) => return granted(request, grant, Some(leader), tracked),
                Ok(Reserved::InFlight { lease_left }) => leader.set_remote(next_poll(known, lease_left)),
                Ok(Reserved::Result(result)) => {
                    leader.publish(result.clone());
                    return admitted_by(result);
                }
                // Not if an owner was seen: it may still be running.
                Err(error) if known.is_none() && may_fail_open(&request, &error) => {
                    return Ok(unprotected(&request, &error, Some(leader), tracked));
                }
                Err(error) => {
                    leader.publish(SharedResult::Failed(error.clone()));
                    return Err(error);
                }
            }
        }
        match poll_remote(&request, &mut leader, deadline).await {
            PollResult::MayBeGone => {}
            PollResult::Result(result) => {
                leader.publish(result.clone());
                return admitted_by(result);
            }
            PollResult::Elapsed { lease_left } => return Ok(in_flight(lease_left)),
        }
    }
}

/// How the polling of another owner's record ended.
enum PollResult {
    MayBeGone,
    Result(SharedResult),
    Elapsed { lease_left: Duration },
}

/// Polls the record until its owner may be gone, there is a result, or the deadline is reached.
async fn poll_remote(request: &Request<'_>, leader: &mut Leader, deadline: Instant) -> PollResult {
    while let Some(remote) = leader.remote() {
        sleep_until(remote.next_poll.min(deadline)).await;
        let now = Instant::now();
        let elapsed = PollResult::Elapsed { lease_left: remote.lease_ends.saturating_duration_since(now) };
        if now >= deadline {
            return elapsed;
        }

        leader.begin_request();
        let timeout = request.shared.settings.reserve_timeout.min(deadline - now);
        let get = || request.shared.store.get(request.key);
        let view = match retry(Operation::Get, timeout, RetryPolicy::IfTransient, get).await {
            Ok(view) => view,
            // The caller's time is up, not the store's.
            Err(_) if Instant::now() + FIRST_POLL >= deadline => return elapsed,
            Err(error) => return PollResult::Result(SharedResult::Failed(error)),
        };
        match view {
            Some(view) if view.fingerprint != *request.fingerprint => {
                return PollResult::Result(SharedResult::FingerprintMismatch);
            }
            Some(view) if !view.can_be_taken_over() => match view.state {
                StateView::Completed { answer, .. } => {
                    return PollResult::Result(SharedResult::Answered(answer));
                }
                StateView::InFlight { lease_left, .. } => {
                    leader.set_remote(next_poll(Some(remote), lease_left));
                }
            },
            Some(_) | None => {
                leader.set_remote(RemoteOwner { may_be_gone: true, ..remote });
                return PollResult::MayBeGone;
            }
        }
    }
    PollResult::MayBeGone
}

/// When to poll a record next whose owner has `lease_left`: after a pause that doubles each time, but soon after the
/// lease has ended. After a poll that found the key free although it was not, the end of the lease says nothing.
fn next_poll(before: Option<RemoteOwner>, lease_left: Duration) -> RemoteOwner {
    let mut backoff = before.map_or(Backoff::new(FIRST_POLL, LONGEST_POLL), |remote| remote.backoff);
    let pause = backoff.next_pause();
    let wait = if before.is_some_and(|remote| remote.may_be_gone) {
        pause
    } else {
        pause.min(lease_left.max(FIRST_POLL))
    };
    let now = Instant::now();
    RemoteOwner { lease_ends: now + lease_left, next_poll: now + wait, backoff, may_be_gone: false }
}

/// Takes charge of a granted key, unless the engine was shut down meanwhile: then the key is released.
fn granted(
    request: Request<'_>,
    grant: Grant,
    leader: Option<Leader>,
    tracked: RunGuard,
) -> Result<Admitted, StoreError> {
    let shared = request.shared;
    let reservation = Reservation::new(request, grant, leader, tracked);
    // Checked after the run is registered: a shutdown that begins after this check finds the run there.
    if shared.tracker.is_closed() {
        reservation.release_in_background();
        return Err(shutting_down());
    }
    Ok(admitted(Admission::Granted(reservation)))
}

/// Whether the policy covers this failure: only one of a reservation, and only of a store that does not answer.
fn may_fail_open(request: &Request<'_>, error: &StoreError) -> bool {
    request.shared.settings.store_failure == StoreFailurePolicy::FailOpen
        && matches!(error.kind, StoreErrorKind::Unavailable | StoreErrorKind::Timeout)
}

fn unprotected(
    request: &Request<'_>,
    error: &StoreError,
    leader: Option<Leader>,
    tracked: RunGuard,
) -> Admitted {
    observe::unprotected(request.key, error);
    let attempt = Attempt::new(Arc::new(Run::unprotected(request.key)));
    let unprotected = UnprotectedRun { _tracked: tracked.unprotected(), _leader: leader };
    Admitted { admission: Admission::Unprotected(attempt), unprotected: Some(unprotected) }
}

fn admitted_by(result: SharedResult) -> Result<Admitted, StoreError> {
    Ok(admitted(match result {
        SharedResult::Answered(Answer::Value(value)) => Admission::Replayed(value),
        SharedResult::Answered(Answer::NotKept) => Admission::NotKept,
        SharedResult::FingerprintMismatch => Admission::FingerprintMismatch,
        SharedResult::LeaseExpired { attempt } => Admission::LeaseExpired { attempt },
        SharedResult::Failed(error) => return Err(error),
    }))
}

fn in_flight(retry_after: Duration) -> Admitted {
    admitted(Admission::InFlight { retry_after })
}

fn admitted(admission: Admission) -> Admitted {
    Admitted { admission, unprotected: None }
}
