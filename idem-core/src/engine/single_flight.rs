//! [`SingleFlight`]: callers of one request in one process share one *flight*, so that waiting costs the store little.
//!
//! Under [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) the first caller of a (key, fingerprint) becomes the
//! *leader*. Only the leader talks to the store: it runs the handler, or polls the record of an owner elsewhere. The
//! others wait for its result and cost the store nothing, however many they are. If the leader goes away without a
//! result (its handler failed, its caller gave up, its lease was lost), the next waiter becomes the leader, in the order
//! of joining, and continues with what is known of the owner elsewhere.
//!
//! INV-1: a flight has exactly one leader while it is in the map, and none afterwards.
//! INV-2: a flight leaves the map before its result is published, so nobody joins a flight that is over.
//! INV-3: a refusal holds only for callers that joined before the store was asked. The others join again. (An answer
//! never changes, and a failure of the store cannot be out of date.)
//! INV-4: callers with different fingerprints are in different flights. No result crosses from one to another.
//! INV-5: a run leads its flight no longer than it is known to hold its lease.
//!
//! The lock of a flight is taken under the lock of its shard or alone. Wakers are woken after both are unlocked.

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests;

use std::collections::hash_map::{self, RandomState};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::Answer;
use crate::backoff::Backoff;
use crate::engine::run::{Lease, Run};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::sync::{Mutex, lock};

/// Enough that callers of different keys rarely wait for the same lock; a power of two.
const SHARDS: usize = 64;

/// The `retry_after` of a caller that knows nothing of the owner.
const UNKNOWN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// All flights of an engine.
pub(crate) struct SingleFlight {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type FlightId = (Key, Fingerprint);
type Shard = HashMap<FlightId, Arc<Mutex<Flight>>>;

/// The callers of one request.
struct Flight {
    phase: Phase,
    /// The callers that wait, by join number. Until it is polled, a caller has a waker that does nothing.
    waiters: BTreeMap<u64, Waker>,
    /// How many callers have ever joined: the join number of the last one.
    joined: u64,
}

/// How far a flight is. A leader is named by its join number.
enum Phase {
    /// The leader asks the store, or polls the record of an owner elsewhere.
    Asking { leader: u64, remote: Option<RemoteOwner> },
    /// The leader runs, in this process. The waiters watch its lease.
    Running { leader: u64, run: Arc<Run> },
    /// The leader has published a result. `asked` is how many had joined when the store was asked (INV-3).
    Published { result: SharedResult, asked: u64 },
}

/// What the leader found out, for all callers of the flight that joined in time.
#[derive(Clone, Debug)]
pub(crate) enum SharedResult {
    Answered(Answer),
    FingerprintMismatch,
    LeaseExpired { attempt: u32 },
    Failed(StoreError),
}

/// What a leader knows of an owner in another process, or of another engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteOwner {
    pub(crate) lease_ends: Instant,
    pub(crate) next_poll: Instant,
    /// The pauses between polls.
    pub(crate) backoff: Backoff,
    /// The last poll found that the key may be free.
    pub(crate) may_be_gone: bool,
}

/// How [`SingleFlight::join`] ended.
pub(crate) enum Joined {
    /// This caller is the leader.
    Leader(Leader),
    /// Another caller was the leader, and published this.
    Result(SharedResult),
    /// The caller's time is up.
    Elapsed { retry_after: Duration },
}

impl SingleFlight {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Joins the flight of this request or starts it, and waits for the leadership, for a result, or for `elapsed`.
    pub(crate) async fn join(
        self: &Arc<Self>,
        key: &Key,
        fingerprint: Fingerprint,
        elapsed: impl Future<Output = ()>,
    ) -> Joined {
        let mut elapsed = pin!(elapsed);
        let mut is_first = true;
        loop {
            let member = self.enter((key.clone(), fingerprint));
            if !std::mem::take(&mut is_first) {
                // Lets the others that join again do so, before the leader asks the store once for all of them.
                tokio::task::yield_now().await;
            }
            let mut watched = None;
            loop {
                tokio::select! {
                    biased;
                    turn = poll_fn(|context| member.poll_turn(context, watched.as_ref())) => match turn {
                        Turn::Lead => return Joined::Leader(Leader { asked: member.number, member }),
                        Turn::Result(result) => return Joined::Result(result),
                        Turn::JoinAgain => break,
                        Turn::Watch(run) => watched = run,
                    },
                    run = lost(watched.clone()) => member.revoke(&run),
                    () = &mut elapsed => return Joined::Elapsed { retry_after: member.retry_after() },
                }
            }
        }
    }

    fn enter(self: &Arc<Self>, id: FlightId) -> Membership {
        let mut shard = lock(self.shard(&id));
        let (flight, number) = match shard.entry(id.clone()) {
            hash_map::Entry::Occupied(entry) => {
                let flight = Arc::clone(entry.get());
                let number = lock(&flight).add_waiter();
                (flight, number)
            }
            hash_map::Entry::Vacant(entry) => {
                let phase = Phase::Asking { leader: 1, remote: None };
                let flight = Flight { phase, waiters: BTreeMap::new(), joined: 1 };
                (Arc::clone(entry.insert(Arc::new(Mutex::new(flight)))), 1)
            }
        };
        Membership { single_flight: Arc::clone(self), id, flight, number }
    }

    fn shard(&self, id: &FlightId) -> &Mutex<Shard> {
        // The remainder is below the number of shards.
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits are used")]
        let hash = self.hasher.hash_one(id) as usize;
        &self.shards[hash % SHARDS]
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| lock(shard).is_empty())
    }
}

/// Waits until the lease of the run is lost, and returns the run. Waits forever if there is no run.
async fn lost(run: Option<Arc<Run>>) -> Arc<Run> {
    if let Some(run) = run {
        if let Some(lease) = &run.lease {
            lease.lost().await;
            return run;
        }
    }
    std::future::pending().await
}

impl Flight {
    fn add_waiter(&mut self) -> u64 {
        self.joined += 1;
        self.waiters.insert(self.joined, Waker::noop().clone());
        self.joined
    }

    fn leader(&self) -> Option<u64> {
        match self.phase {
            Phase::Asking { leader, .. } | Phase::Running { leader, .. } => Some(leader),
            Phase::Published { .. } => None,
        }
    }

    /// Makes the waiter that joined first the leader, and returns its waker. `None` if nobody waits.
    fn pass_on(&mut self) -> Option<Waker> {
        let remote = match self.phase {
            Phase::Asking { remote, .. } => remote,
            Phase::Running { .. } | Phase::Published { .. } => None,
        };
        let (leader, waker) = self.waiters.pop_first()?;
        self.phase = Phase::Asking { leader, remote };
        Some(waker)
    }

    /// The wakers of all waiters, which store new ones when they are polled.
    fn take_wakers(&mut self) -> Vec<Waker> {
        self.waiters.values_mut().map(|waker| std::mem::replace(waker, Waker::noop().clone())).collect()
    }
}

/// What a caller has to do next.
enum Turn {
    Lead,
    Result(SharedResult),
    /// The published result does not hold for this caller (INV-3).
    JoinAgain,
    /// Another run leads now, or none.
    Watch(Option<Arc<Run>>),
}

/// One caller in a flight. Dropped, it leaves, and passes the leadership on if it has it.
struct Membership {
    single_flight: Arc<SingleFlight>,
    id: FlightId,
    flight: Arc<Mutex<Flight>>,
    /// This caller's join number.
    number: u64,
}

impl Membership {
    fn poll_turn(&self, context: &Context<'_>, watched: Option<&Arc<Run>>) -> Poll<Turn> {
        let mut flight = lock(&self.flight);
        if flight.leader() == Some(self.number) {
            return Poll::Ready(Turn::Lead);
        }
        match &flight.phase {
            Phase::Published { result, asked } => {
                let holds_for_all = matches!(result, SharedResult::Answered(_) | SharedResult::Failed(_));
                let holds = holds_for_all || self.number <= *asked;
                return Poll::Ready(if holds { Turn::Result(result.clone()) } else { Turn::JoinAgain });
            }
            Phase::Running { run, .. } if watched.is_none_or(|watched| !Arc::ptr_eq(watched, run)) => {
                return Poll::Ready(Turn::Watch(Some(Arc::clone(run))));
            }
            Phase::Asking { .. } if watched.is_some() => return Poll::Ready(Turn::Watch(None)),
            Phase::Running { .. } | Phase::Asking { .. } => {}
        }
        let replaced = match flight.waiters.get_mut(&self.number) {
            Some(waker) if !waker.will_wake(context.waker()) => {
                Some(std::mem::replace(waker, context.waker().clone()))
            }
            Some(_) | None => None,
        };
        drop(flight);
        drop(replaced);
        Poll::Pending
    }

    /// Ends the leadership of a run that has lost its lease (INV-5).
    fn revoke(&self, lost: &Arc<Run>) {
        let mut flight = lock(&self.flight);
        let waker = match &flight.phase {
            // Somebody waits: this caller.
            Phase::Running { run, .. } if Arc::ptr_eq(run, lost) => flight.pass_on(),
            _ => None,
        };
        drop(flight);
        wake(waker);
    }

    fn retry_after(&self) -> Duration {
        let ends = match &lock(&self.flight).phase {
            Phase::Asking { remote, .. } => remote.map(|remote| remote.lease_ends),
            Phase::Running { run, .. } => run.lease.as_ref().map(Lease::ends),
            Phase::Published { .. } => None,
        };
        ends.map_or(UNKNOWN_RETRY_AFTER, |ends| ends.saturating_duration_since(Instant::now()))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut shard = lock(self.single_flight.shard(&self.id));
        let mut flight = lock(&self.flight);
        let own = flight.waiters.remove(&self.number);
        let mut next = None;
        if flight.leader() == Some(self.number) {
            next = flight.pass_on();
            if next.is_none() {
                shard.remove(&self.id);
            }
        }
        drop((flight, shard));
        drop(own);
        wake(next);
    }
}

/// The right to talk to the store for a flight. Dropped without a result, it passes to the next waiter.
pub(crate) struct Leader {
    member: Membership,
    /// How many callers had joined when the store was last asked.
    asked: u64,
}

impl Leader {
    /// The store is about to be asked: the result holds for the callers that have joined until now.
    pub(crate) fn begin_request(&mut self) {
        self.asked = lock(&self.member.flight).joined;
    }

    /// What is known of an owner elsewhere, by this leader or an earlier one.
    pub(crate) fn remote(&self) -> Option<RemoteOwner> {
        match lock(&self.member.flight).phase {
            Phase::Asking { remote, .. } => remote,
            Phase::Running { .. } | Phase::Published { .. } => None,
        }
    }

    pub(crate) fn set_remote(&self, owner: RemoteOwner) {
        if let Phase::Asking { remote, .. } = &mut lock(&self.member.flight).phase {
            *remote = Some(owner);
        }
    }

    /// The key was granted to this run: it leads for as long as it has its lease.
    pub(crate) fn start(&self, run: &Arc<Run>) {
        let wakers = {
            let mut flight = lock(&self.member.flight);
            flight.phase = Phase::Running { leader: self.member.number, run: Arc::clone(run) };
            flight.take_wakers()
        };
        wake(wakers);
    }

    /// Gives the result to every waiter, and ends the flight (INV-2). Does nothing if another caller leads now.
    pub(crate) fn publish(self, result: SharedResult) {
        let mut shard = lock(self.member.single_flight.shard(&self.member.id));
        let mut flight = lock(&self.member.flight);
        if flight.leader() != Some(self.member.number) {
            return;
        }
        let ended = shard.remove(&self.member.id);
        flight.phase = Phase::Published { result, asked: self.asked };
        let wakers = flight.take_wakers();
        drop((flight, shard));
        drop(ended);
        wake(wakers);
    }
}

fn wake(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
