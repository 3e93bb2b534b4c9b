//! Waiting without a stampede: callers of one request in one process share one *flight*.
//!
//! Under [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) the first caller of a (key, fingerprint) gets the
//! *lead*: it alone talks to the store, and either runs the handler or watches whoever does. The others wait for its
//! verdict and cost the store nothing, however many they are. A lead that goes away without a verdict (its handler
//! failed, its caller gave up, its lease was lost) passes to exactly one of the waiters, together with what it knew of
//! the owner.
//!
//! INV-1: at most one caller of a flight has the lead.
//! INV-2: a flight leaves the map before its verdict is told, so nobody waits for a verdict that was told already.
//! INV-3: a refusal is true only for those who boarded before the store was asked; the others board again. (An answer
//! does not change, and a failure of the store says nothing that could be out of date.)
//! INV-4: callers with different fingerprints are in different flights; nothing of one's verdict reaches the other.
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
use crate::engine::attempt::{Lease, Ownership};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::{Answer, Fingerprint, Key, StoreError};

/// Enough that the map is not what callers of different keys queue for; a power of two.
const SHARDS: usize = 64;

/// What a waiter tells its client about the time left before anything is known of the owner.
const UNKNOWN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Every flight of an engine.
pub(crate) struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

type FlightId = (Key, Fingerprint);
type Shard = HashMap<FlightId, Arc<Flight>, RandomState>;

struct Flight {
    landed: watch::Sender<Option<Landed>>,
    /// One permit: the lead (INV-1). Fair, and safe when a waiter for it is dropped.
    lead: Arc<Semaphore>,
    /// The run of this process that has the lead. Waiters follow its lease.
    run: watch::Sender<Option<Arc<Ownership>>>,
    /// The permit of that run, where a waiter that sees its lease lost can take it from.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// What is known of an owner elsewhere; passed on with the lead.
    watched: Mutex<Option<Watched>>,
    /// Callers aboard. Changed under the shard's lock only, so that no order between threads is asked of it.
    aboard: AtomicUsize,
    /// Callers that ever boarded.
    boarded: AtomicU64,
}

/// What the lead found out, true for every caller of the flight that boarded in time.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Answered(Answer),
    FingerprintMismatch,
    LeaseExpired { attempt: u32 },
    Failed(StoreError),
}

#[derive(Clone)]
struct Landed {
    verdict: Verdict,
    /// How many had boarded when the store was asked (INV-3).
    boarded: u64,
}

/// What a lead knows of an owner in another process, or of another engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) lease_ends: Instant,
    pub(crate) next_look: Instant,
    /// The pauses between looks.
    pub(crate) backoff: Backoff,
    /// The last look said that the key may be free.
    pub(crate) may_be_free: bool,
}

/// How boarding ended.
pub(crate) enum Boarding {
    /// This caller has the lead.
    Lead(Lead),
    /// Another had it, and found this out.
    Verdict(Verdict),
    /// The caller's time is up.
    Elapsed { retry_after: Duration },
}

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Joins the flight of this request, or starts it; and waits for the lead, for a verdict, or for `elapsed`.
    pub(crate) async fn board(
        self: &Arc<Self>,
        key: &Key,
        fingerprint: Fingerprint,
        elapsed: impl Future<Output = ()>,
    ) -> Boarding {
        let mut elapsed = pin!(elapsed);
        let mut is_first = true;
        loop {
            let seat = self.seat((key.clone(), fingerprint));
            if !std::mem::take(&mut is_first) {
                // Lets the others who have to board again do so before the store is asked once for all of them.
                tokio::task::yield_now().await;
            }
            let flight = Arc::clone(&seat.flight);
            let (mut landed, mut run) = (flight.landed.subscribe(), flight.run.subscribe());
            let mut lead = pin!(Arc::clone(&flight.lead).acquire_owned());
            loop {
                let current = run.borrow_and_update().clone();
                // Biased, so that a verdict is preferred to the lead that its teller leaves behind.
                tokio::select! {
                    biased;
                    Ok(landed) = landed.wait_for(Option::is_some) => {
                        if let Some(verdict) = landed.as_ref().and_then(|landed| landed.for_caller(seat.number)) {
                            return Boarding::Verdict(verdict);
                        }
                        break;
                    }
                    Ok(permit) = &mut lead => return Boarding::Lead(Lead::new(seat, permit)),
                    run = lost(current) => flight.depose(&run),
                    Ok(()) = run.changed() => {}
                    () = &mut elapsed => return Boarding::Elapsed { retry_after: flight.retry_after() },
                }
            }
        }
    }

    fn seat(self: &Arc<Self>, id: FlightId) -> Seat {
        let mut shard = lock(self.shard(&id));
        let flight = match shard.entry(id.clone()) {
            hash_map::Entry::Occupied(entry) => Arc::clone(entry.get()),
            hash_map::Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::new(Flight::new()))),
        };
        flight.aboard.fetch_add(1, Ordering::Relaxed);
        let number = flight.boarded.fetch_add(1, Ordering::SeqCst) + 1;
        Seat { flights: Arc::clone(self), id, flight, number }
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
async fn lost(run: Option<Arc<Ownership>>) -> Arc<Ownership> {
    if let Some(run) = run {
        if let Some(lease) = &run.lease {
            lease.lost().await;
            return run;
        }
    }
    std::future::pending().await
}

impl Landed {
    /// The verdict, if it holds for the caller that boarded as this number (INV-3).
    fn for_caller(&self, number: u64) -> Option<Verdict> {
        let holds_for_all = matches!(self.verdict, Verdict::Answered(_) | Verdict::Failed(_));
        let holds = holds_for_all || number <= self.boarded;
        holds.then(|| self.verdict.clone())
    }
}

impl Flight {
    fn new() -> Self {
        Self {
            landed: watch::Sender::new(None),
            lead: Arc::new(Semaphore::new(1)),
            run: watch::Sender::new(None),
            permit: Mutex::new(None),
            watched: Mutex::new(None),
            aboard: AtomicUsize::new(0),
            boarded: AtomicU64::new(0),
        }
    }

    /// Takes the lead from a run, if it has it, so that a waiter gets it (INV-5).
    fn depose(&self, run: &Arc<Ownership>) {
        let mut permit = lock(&self.permit);
        if self.is_led_by(run) {
            self.run.send_replace(None);
            *permit = None;
        }
    }

    fn is_led_by(&self, run: &Arc<Ownership>) -> bool {
        self.run.borrow().as_ref().is_some_and(|current| Arc::ptr_eq(current, run))
    }

    fn retry_after(&self) -> Duration {
        let run = self.run.borrow().clone();
        let of_run = run.as_ref().and_then(|run| run.lease.as_ref()).map(Lease::ends);
        let ends = of_run.or_else(|| lock(&self.watched).map(|watched| watched.lease_ends));
        ends.map_or(UNKNOWN_RETRY_AFTER, |ends| ends.saturating_duration_since(Instant::now()))
    }
}

/// A place in a flight; the last to leave removes it from the map.
struct Seat {
    flights: Arc<Flights>,
    id: FlightId,
    flight: Arc<Flight>,
    /// The how-manieth caller this is.
    number: u64,
}

impl Seat {
    /// Removes the flight from the map, unless a later one of the same request has its place.
    fn remove_flight(&self, shard: &mut Shard) {
        if shard.get(&self.id).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            shard.remove(&self.id);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shard = lock(self.flights.shard(&self.id));
        if self.flight.aboard.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.remove_flight(&mut shard);
        }
    }
}

/// The right to talk to the store for a flight. Dropped without a verdict, it passes to one waiter.
pub(crate) struct Lead {
    /// Until a run has it: the flight keeps it then.
    permit: Option<OwnedSemaphorePermit>,
    run: Option<Arc<Ownership>>,
    /// How many had boarded when the store was last asked.
    boarded: u64,
    // Last, so that the lead passes on before its seat is left.
    seat: Seat,
}

impl Lead {
    fn new(seat: Seat, permit: OwnedSemaphorePermit) -> Self {
        Self { permit: Some(permit), run: None, boarded: seat.number, seat }
    }

    /// The store is about to be asked: what it says is true for those who are aboard now.
    pub(crate) fn ask(&mut self) {
        self.boarded = self.seat.flight.boarded.load(Ordering::SeqCst);
    }

    /// What is known of an owner elsewhere, by this lead or the one before it.
    pub(crate) fn watched(&self) -> Option<Watched> {
        *lock(&self.seat.flight.watched)
    }

    pub(crate) fn watch(&self, watched: Watched) {
        *lock(&self.seat.flight.watched) = Some(watched);
    }

    /// The key was granted to this run: it has the lead for as long as it has its lease.
    pub(crate) fn run(&mut self, run: &Arc<Ownership>) {
        let flight = &self.seat.flight;
        *lock(&flight.permit) = self.permit.take();
        *lock(&flight.watched) = None;
        self.run = Some(Arc::clone(run));
        flight.run.send_replace(Some(Arc::clone(run)));
    }

    /// Tells every waiter, and ends the flight (INV-2). Does nothing if the lead has passed to another.
    pub(crate) fn land(self, verdict: Verdict) {
        let flight = &self.seat.flight;
        if self.run.as_ref().is_some_and(|run| !flight.is_led_by(run)) {
            return;
        }
        self.seat.remove_flight(&mut lock(self.seat.flights.shard(&self.seat.id)));
        flight.landed.send_replace(Some(Landed { verdict, boarded: self.boarded }));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(run) = &self.run {
            self.seat.flight.depose(run);
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

    async fn board(flights: &Arc<Flights>) -> Boarding {
        let (key, fingerprint) = id();
        flights.board(&key, fingerprint, pending()).await
    }

    async fn lead(flights: &Arc<Flights>) -> Lead {
        match board(flights).await {
            Boarding::Lead(lead) => lead,
            Boarding::Verdict(_) | Boarding::Elapsed { .. } => panic!("the lead is free"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_boards_after_the_landing_starts_a_new_flight() {
        let flights = Flights::new();
        lead(&flights).await.land(Verdict::FingerprintMismatch);
        assert!(flights.is_empty());
        drop(lead(&flights).await);
        assert!(flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_flight_does_not_remove_its_successor() {
        let flights = Flights::new();
        let first = lead(&flights).await;
        let seat = flights.seat(id()); // A waiter of the first flight that is slow to leave.
        first.land(Verdict::FingerprintMismatch);
        let second = lead(&flights).await;
        drop(seat);
        assert!(!flights.is_empty());
        drop(second);
        assert!(flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_nothing_behind() {
        let flights = Flights::new();
        let lead = lead(&flights).await;
        let (key, fingerprint) = id();
        let waited = flights.board(&key, fingerprint, sleep(Duration::from_secs(1))).await;
        assert!(matches!(waited, Boarding::Elapsed { retry_after: UNKNOWN_RETRY_AFTER }));
        let (now, backoff) = (Instant::now(), Backoff::new(Duration::ZERO, Duration::ZERO));
        let lease_ends = now + Duration::from_secs(7);
        lead.watch(Watched { lease_ends, next_look: now, backoff, may_be_free: false });
        let waited = flights.board(&key, fingerprint, sleep(Duration::from_secs(1))).await;
        assert!(matches!(waited, Boarding::Elapsed { retry_after } if retry_after == Duration::from_secs(6)));
        drop(lead);
        assert!(flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_told_to_those_who_were_aboard_when_the_store_was_asked_and_to_no_others() {
        let flights = Flights::new();
        let mut lead = lead(&flights).await;
        let (mut early, mut late) = (pin!(board(&flights)), pin!(board(&flights)));
        assert!(is_waiting(&mut early).await);
        lead.ask();
        assert!(is_waiting(&mut late).await);
        lead.land(Verdict::FingerprintMismatch);
        assert!(matches!(early.await, Boarding::Verdict(Verdict::FingerprintMismatch)));
        assert!(matches!(late.await, Boarding::Lead(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_has_lost_the_lead_tells_nothing_to_those_who_wait_for_the_next() {
        let flights = Flights::new();
        let lease = Lease::granted(Instant::now(), Duration::from_secs(60));
        let run = Ownership::granted(&id().0, OwnerToken::random(), FencingToken::MIN, 1, lease);
        let run = Arc::new(run);
        let mut zombie = lead(&flights).await;
        zombie.run(&run);
        run.lose();
        let next = lead(&flights).await;
        let mut waiter = pin!(board(&flights));
        assert!(is_waiting(&mut waiter).await);
        zombie.land(Verdict::Answered(Answer::NotKept));
        assert!(is_waiting(&mut waiter).await);
        next.land(Verdict::FingerprintMismatch);
        // Which was found out before the waiter came, so that it asks for itself.
        assert!(matches!(waiter.await, Boarding::Lead(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_without_a_verdict_passes_the_lead_on_at_once() {
        let flights = Flights::new();
        let lease = Lease::granted(Instant::now(), Duration::from_secs(60));
        let run = Ownership::granted(&id().0, OwnerToken::random(), FencingToken::MIN, 1, lease);
        let mut first = lead(&flights).await;
        first.run(&Arc::new(run));
        let mut waiter = pin!(board(&flights));
        assert!(is_waiting(&mut waiter).await);
        drop(first);
        let start = Instant::now();
        assert!(matches!(waiter.await, Boarding::Lead(_)));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    /// Lets it go as far as it can; it is not to come to an end.
    async fn is_waiting(boarding: &mut (impl Future<Output = Boarding> + Unpin)) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *boarding).poll(context).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn other_payloads_and_other_keys_fly_alone() {
        let flights = Flights::new();
        let _lead = lead(&flights).await;
        let (key, fingerprint) = id();
        let other_key = Key::new("scope", "other name").unwrap();
        for (key, fingerprint) in
            [(key, Fingerprint::from_parts(["other payload"])), (other_key, fingerprint)]
        {
            assert!(matches!(flights.board(&key, fingerprint, pending()).await, Boarding::Lead(_)));
        }
    }
}
