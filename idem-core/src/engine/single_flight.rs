//! Waiting without a stampede: callers of one request in one process share one *flight*.
//!
//! Under [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) the first caller of a (key, fingerprint) gets the
//! *lead*: it alone talks to the store, and either runs the handler or watches whoever does. The others wait for its
//! result and cost the store nothing, however many they are. A lead that goes away without a result (its handler
//! failed, its caller gave up, its lease was lost) passes to exactly one of the waiters, together with what it knew of
//! the owner.
//!
//! INV-1: at most one caller of a flight has the lead.
//! INV-2: a flight leaves the map before its result is told, so nobody waits for a result that was told already.
//! INV-3: a refusal is true only for those who joined before the store was asked; the others board again. (An answer
//! does not change, and a failure of the store says nothing that could be out of date.)
//! INV-4: callers with different fingerprints are in different single_flight; nothing of one's result reaches the other.
//! INV-5: a run holds the lead no longer than it is known to hold its lease.

use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState};
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::engine::run::{Lease, Run};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::{Answer, Fingerprint, Key, StoreError};

/// Enough that the map is not what callers of different keys queue for; a power of two.
const SHARDS: usize = 64;

/// What a waiter tells its client about the time left before anything is known of the owner.
const UNKNOWN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Every flight of an engine.
pub(crate) struct SingleFlight {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type FlightId = (Key, Fingerprint);
type Shard = HashMap<FlightId, Arc<Flight>, RandomState>;

struct Flight {
    published: watch::Sender<Option<Published>>,
    /// One permit: the lead (INV-1). Fair, and safe when a waiter for it is dropped.
    lead: Arc<Semaphore>,
    /// The run of this process that has the lead. Waiters follow its lease.
    run: watch::Sender<Option<Arc<Run>>>,
    /// The permit of that run, where a waiter that sees its lease lost can take it from.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// What is known of an owner elsewhere; passed on with the lead.
    remote: Mutex<Option<RemoteOwner>>,
    /// Callers members. Changed under the shard's lock only, so that no order between threads is asked of it.
    members: AtomicUsize,
    /// Callers that ever joined.
    joined: AtomicU64,
}

/// What the lead found out, true for every caller of the flight that joined in time.
#[derive(Clone, Debug)]
pub(crate) enum SharedResult {
    Answered(Answer),
    FingerprintMismatch,
    LeaseExpired { attempt: u32 },
    Failed(StoreError),
}

#[derive(Clone)]
struct Published {
    result: SharedResult,
    /// How many had joined when the store was asked (INV-3).
    joined: u64,
}

/// What a lead knows of an owner in another process, or of another engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemoteOwner {
    pub(crate) lease_ends: Instant,
    pub(crate) next_poll: Instant,
    /// The pauses between looks.
    pub(crate) backoff: Backoff,
    /// The last look said that the key may be free.
    pub(crate) may_be_gone: bool,
}

/// How boarding ended.
pub(crate) enum Joined {
    /// This caller has the lead.
    Leader(Leader),
    /// Another had it, and found this out.
    Result(SharedResult),
    /// The caller's time is up.
    Elapsed { retry_after: Duration },
}

impl SingleFlight {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Joins the flight of this request, or starts it; and waits for the lead, for a result, or for `elapsed`.
    pub(crate) async fn join(
        self: &Arc<Self>,
        key: &Key,
        fingerprint: Fingerprint,
        elapsed: impl Future<Output = ()>,
    ) -> Joined {
        let mut elapsed = pin!(elapsed);
        let mut is_first = true;
        loop {
            let member = self.member((key.clone(), fingerprint));
            if !std::mem::take(&mut is_first) {
                // Lets the others who have to board again do so before the store is asked once for all of them.
                tokio::task::yield_now().await;
            }
            let flight = Arc::clone(&member.flight);
            let (mut published, mut run) = (flight.published.subscribe(), flight.run.subscribe());
            let mut lead = pin!(Arc::clone(&flight.lead).acquire_owned());
            loop {
                let current = run.borrow_and_update().clone();
                // Biased, so that a result is preferred to the lead that its teller leaves behind.
                tokio::select! {
                    biased;
                    Ok(published) = published.wait_for(Option::is_some) => {
                        if let Some(result) = published.as_ref().and_then(|published| published.for_caller(member.number)) {
                            return Joined::Result(result);
                        }
                        break;
                    }
                    Ok(permit) = &mut lead => return Joined::Leader(Leader::new(member, permit)),
                    run = lost(current) => flight.revoke(&run),
                    Ok(()) = run.changed() => {}
                    () = &mut elapsed => return Joined::Elapsed { retry_after: flight.retry_after() },
                }
            }
        }
    }

    fn member(self: &Arc<Self>, id: FlightId) -> Membership {
        let mut shard = lock(self.shard(&id));
        let flight = match shard.entry(id.clone()) {
            hash_map::Entry::Occupied(entry) => Arc::clone(entry.get()),
            hash_map::Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::new(Flight::new()))),
        };
        flight.members.fetch_add(1, Ordering::Relaxed);
        let number = flight.joined.fetch_add(1, Ordering::SeqCst) + 1;
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

/// Resolves with the run when its lease is lost; never if there is no run.
async fn lost(run: Option<Arc<Run>>) -> Arc<Run> {
    if let Some(run) = run {
        if let Some(lease) = &run.lease {
            lease.lost().await;
            return run;
        }
    }
    std::future::pending().await
}

impl Published {
    /// The result, if it holds for the caller that joined as this number (INV-3).
    fn for_caller(&self, number: u64) -> Option<SharedResult> {
        let holds_for_all = matches!(self.result, SharedResult::Answered(_) | SharedResult::Failed(_));
        let holds = holds_for_all || number <= self.joined;
        holds.then(|| self.result.clone())
    }
}

impl Flight {
    fn new() -> Self {
        Self {
            published: watch::Sender::new(None),
            lead: Arc::new(Semaphore::new(1)),
            run: watch::Sender::new(None),
            permit: Mutex::new(None),
            remote: Mutex::new(None),
            members: AtomicUsize::new(0),
            joined: AtomicU64::new(0),
        }
    }

    /// Takes the lead from a run, if it has it, so that a waiter gets it (INV-5).
    fn revoke(&self, run: &Arc<Run>) {
        let mut permit = lock(&self.permit);
        if self.is_led_by(run) {
            self.run.send_replace(None);
            *permit = None;
        }
    }

    fn is_led_by(&self, run: &Arc<Run>) -> bool {
        self.run.borrow().as_ref().is_some_and(|current| Arc::ptr_eq(current, run))
    }

    fn retry_after(&self) -> Duration {
        let run = self.run.borrow().clone();
        let of_run = run.as_ref().and_then(|run| run.lease.as_ref()).map(Lease::ends);
        let ends = of_run.or_else(|| lock(&self.remote).map(|remote| remote.lease_ends));
        ends.map_or(UNKNOWN_RETRY_AFTER, |ends| ends.saturating_duration_since(Instant::now()))
    }
}

/// A place in a flight; the last to leave removes it from the map.
struct Membership {
    single_flight: Arc<SingleFlight>,
    id: FlightId,
    flight: Arc<Flight>,
    /// The how-manieth caller this is.
    number: u64,
}

impl Membership {
    /// Removes the flight from the map, unless a later one of the same request has its place.
    fn remove_flight(&self, shard: &mut Shard) {
        if shard.get(&self.id).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            shard.remove(&self.id);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut shard = lock(self.single_flight.shard(&self.id));
        if self.flight.members.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.remove_flight(&mut shard);
        }
    }
}

/// The right to talk to the store for a flight. Dropped without a result, it passes to one waiter.
pub(crate) struct Leader {
    /// Until a run has it: the flight keeps it then.
    permit: Option<OwnedSemaphorePermit>,
    run: Option<Arc<Run>>,
    /// How many had joined when the store was last asked.
    joined: u64,
    // Last, so that the lead passes on before its member is left.
    member: Membership,
}

impl Leader {
    fn new(member: Membership, permit: OwnedSemaphorePermit) -> Self {
        Self { permit: Some(permit), run: None, joined: member.number, member }
    }

    /// The store is about to be asked: what it says is true for those who are members now.
    pub(crate) fn begin_request(&mut self) {
        self.joined = self.member.flight.joined.load(Ordering::SeqCst);
    }

    /// What is known of an owner elsewhere, by this lead or the one before it.
    pub(crate) fn remote(&self) -> Option<RemoteOwner> {
        *lock(&self.member.flight.remote)
    }

    pub(crate) fn set_remote(&self, remote: RemoteOwner) {
        *lock(&self.member.flight.remote) = Some(remote);
    }

    /// The key was granted to this run: it has the lead for as long as it has its lease.
    pub(crate) fn start(&mut self, run: &Arc<Run>) {
        let flight = &self.member.flight;
        *lock(&flight.permit) = self.permit.take();
        *lock(&flight.remote) = None;
        self.run = Some(Arc::clone(run));
        flight.run.send_replace(Some(Arc::clone(run)));
    }

    /// Tells every waiter, and ends the flight (INV-2). Does nothing if the lead has passed to another.
    pub(crate) fn publish(self, result: SharedResult) {
        let flight = &self.member.flight;
        if self.run.as_ref().is_some_and(|run| !flight.is_led_by(run)) {
            return;
        }
        self.member.remove_flight(&mut lock(self.member.single_flight.shard(&self.member.id)));
        flight.published.send_replace(Some(Published { result, joined: self.joined }));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            self.member.flight.revoke(run);
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;

    use tokio::time::sleep;

    use super::*;
    use crate::FencingToken;
    use crate::store::OwnerToken;

    fn id() -> FlightId {
        (Key::new("scope", "name").unwrap(), Fingerprint::from_parts(["payload"]))
    }

    async fn join(single_flight: &Arc<SingleFlight>) -> Joined {
        let (key, fingerprint) = id();
        single_flight.join(&key, fingerprint, pending()).await
    }

    async fn lead(single_flight: &Arc<SingleFlight>) -> Leader {
        match join(single_flight).await {
            Joined::Leader(lead) => lead,
            Joined::Result(_) | Joined::Elapsed { .. } => panic!("the lead is free"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_boards_after_the_landing_starts_a_new_flight() {
        let single_flight = SingleFlight::new();
        lead(&single_flight).await.publish(SharedResult::FingerprintMismatch);
        assert!(single_flight.is_empty());
        drop(lead(&single_flight).await);
        assert!(single_flight.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_flight_does_not_remove_its_successor() {
        let single_flight = SingleFlight::new();
        let first = lead(&single_flight).await;
        let member = single_flight.member(id()); // A waiter of the first flight that is slow to leave.
        first.publish(SharedResult::FingerprintMismatch);
        let second = lead(&single_flight).await;
        drop(member);
        assert!(!single_flight.is_empty());
        drop(second);
        assert!(single_flight.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let single_flight = SingleFlight::new();
        let lead = lead(&single_flight).await;
        let (key, fingerprint) = id();
        let waited = single_flight.join(&key, fingerprint, sleep(Duration::from_secs(1))).await;
        assert!(matches!(waited, Joined::Elapsed { retry_after: UNKNOWN_RETRY_AFTER }));
        let (now, backoff) = (Instant::now(), Backoff::new(Duration::ZERO, Duration::ZERO));
        let lease_ends = now + Duration::from_secs(7);
        lead.set_remote(RemoteOwner { lease_ends, next_poll: now, backoff, may_be_gone: false });
        let waited = single_flight.join(&key, fingerprint, sleep(Duration::from_secs(1))).await;
        assert!(matches!(waited, Joined::Elapsed { retry_after } if retry_after == Duration::from_secs(6)));
        drop(lead);
        assert!(single_flight.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_to_those_who_were_aboard_when_the_store_was_asked_and_to_no_others() {
        let single_flight = SingleFlight::new();
        let mut lead = lead(&single_flight).await;
        let (mut early, mut late) = (pin!(join(&single_flight)), pin!(join(&single_flight)));
        assert!(is_waiting(&mut early).await);
        lead.begin_request();
        assert!(is_waiting(&mut late).await);
        lead.publish(SharedResult::FingerprintMismatch);
        assert!(matches!(early.await, Joined::Result(SharedResult::FingerprintMismatch)));
        assert!(matches!(late.await, Joined::Leader(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_has_lost_the_lead_tells_nothing_to_those_who_wait_for_the_next() {
        let single_flight = SingleFlight::new();
        let lease = Lease::granted(Instant::now(), Duration::from_secs(60));
        let run = Run::granted(&id().0, OwnerToken::random(), FencingToken::MIN, 1, lease);
        let run = Arc::new(run);
        let mut zombie = lead(&single_flight).await;
        zombie.start(&run);
        run.lose();
        let next = lead(&single_flight).await;
        let mut waiter = pin!(join(&single_flight));
        assert!(is_waiting(&mut waiter).await);
        zombie.publish(SharedResult::Answered(Answer::NotKept));
        assert!(is_waiting(&mut waiter).await);
        next.publish(SharedResult::FingerprintMismatch);
        // Which was found out before the waiter came, so that it asks for itself.
        assert!(matches!(waiter.await, Joined::Leader(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_without_a_verdict_passes_the_lead_on_at_once() {
        let single_flight = SingleFlight::new();
        let lease = Lease::granted(Instant::now(), Duration::from_secs(60));
        let run = Run::granted(&id().0, OwnerToken::random(), FencingToken::MIN, 1, lease);
        let mut first = lead(&single_flight).await;
        first.start(&Arc::new(run));
        let mut waiter = pin!(join(&single_flight));
        assert!(is_waiting(&mut waiter).await);
        drop(first);
        let start = Instant::now();
        assert!(matches!(waiter.await, Joined::Leader(_)));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    /// Lets it go as far as it can; it is not to come to an end.
    async fn is_waiting(boarding: &mut (impl Future<Output = Joined> + Unpin)) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *boarding).poll(context).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn other_payloads_and_other_keys_fly_alone() {
        let single_flight = SingleFlight::new();
        let _lead = lead(&single_flight).await;
        let (key, fingerprint) = id();
        let other_key = Key::new("scope", "other name").unwrap();
        for (key, fingerprint) in
            [(key, Fingerprint::from_parts(["other payload"])), (other_key, fingerprint)]
        {
            assert!(matches!(single_flight.join(&key, fingerprint, pending()).await, Joined::Leader(_)));
        }
    }
}
