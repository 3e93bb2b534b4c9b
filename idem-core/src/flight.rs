//! Waiting without a stampede: callers of one request in one process share one *flight*.
//!
//! Under [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) the first caller of a (key, fingerprint) gets the
//! *lead*: it alone talks to the store, and either runs the handler or watches whoever does. The others wait for its
//! verdict and cost the store nothing, however many they are. A lead that goes away without a verdict (its handler
//! failed, its caller gave up) passes to exactly one of the waiters.
//!
//! INV-1: at most one caller of a flight has the lead.
//! INV-2: a flight leaves the map before its verdict is told. Whoever boards later starts a new flight and asks the
//! store itself, so nobody waits for a verdict that was told already, and none is older than the reply of the store
//! that brought it.
//! INV-3: callers with different fingerprints are in different flights; nothing of one's verdict reaches the other.

use std::collections::HashMap;
use std::collections::hash_map::{self, RandomState};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::sync::{AtomicUsize, Mutex, Ordering, lock};
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
    verdict: watch::Sender<Option<Verdict>>,
    /// One permit: the lead (INV-1). Fair, and safe when a waiter for it is dropped.
    lead: Arc<Semaphore>,
    /// Until when the owner is known to hold the key.
    busy_until: Mutex<Option<Instant>>,
    /// Callers aboard. Changed under the shard's lock only, so that no order between threads is asked of it.
    aboard: AtomicUsize,
}

/// What the lead found out, true for every caller of the flight.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Answered(Answer),
    FingerprintMismatch,
    LeaseExpired { attempt: u32 },
    Failed(StoreError),
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
        let seat = self.seat((key.clone(), fingerprint));
        let mut verdict = seat.flight.verdict.subscribe();
        // Biased, so that a verdict is preferred to the lead that its teller leaves behind.
        tokio::select! {
            biased;
            Ok(verdict) = verdict.wait_for(Option::is_some) => match &*verdict {
                Some(verdict) => Boarding::Verdict(verdict.clone()),
                // Not possible: it was waited for.
                None => Boarding::Elapsed { retry_after: UNKNOWN_RETRY_AFTER },
            },
            Ok(permit) = Arc::clone(&seat.flight.lead).acquire_owned() => {
                Boarding::Lead(Lead { _permit: permit, seat })
            }
            () = elapsed => Boarding::Elapsed { retry_after: seat.flight.retry_after() },
        }
    }

    fn seat(self: &Arc<Self>, id: FlightId) -> Seat {
        let mut shard = lock(self.shard(&id));
        let flight = match shard.entry(id.clone()) {
            hash_map::Entry::Occupied(entry) => Arc::clone(entry.get()),
            hash_map::Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::new(Flight::new()))),
        };
        flight.aboard.fetch_add(1, Ordering::Relaxed);
        Seat { flights: Arc::clone(self), id, flight }
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

impl Flight {
    fn new() -> Self {
        Self {
            verdict: watch::Sender::new(None),
            lead: Arc::new(Semaphore::new(1)),
            busy_until: Mutex::new(None),
            aboard: AtomicUsize::new(0),
        }
    }

    fn retry_after(&self) -> Duration {
        let busy_until = *lock(&self.busy_until);
        busy_until.map_or(UNKNOWN_RETRY_AFTER, |instant| instant.saturating_duration_since(Instant::now()))
    }
}

/// A place in a flight; the last to leave removes it from the map.
struct Seat {
    flights: Arc<Flights>,
    id: FlightId,
    flight: Arc<Flight>,
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
    // Before the seat, so that the next lead is chosen before the flight may leave the map.
    _permit: OwnedSemaphorePermit,
    seat: Seat,
}

impl Lead {
    /// Tells the waiters until when the key is held, for the case that they cannot wait so long.
    pub(crate) fn busy_until(&self, instant: Instant) {
        *lock(&self.seat.flight.busy_until) = Some(instant);
    }

    /// Tells every waiter, and ends the flight (INV-2).
    pub(crate) fn land(self, verdict: Verdict) {
        self.seat.remove_flight(&mut lock(self.seat.flights.shard(&self.seat.id)));
        self.seat.flight.verdict.send_replace(Some(verdict));
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    fn id() -> FlightId {
        (Key::new("scope", "name").unwrap(), Fingerprint::of(["payload"]))
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
        lead.busy_until(Instant::now() + Duration::from_secs(7));
        let waited = flights.board(&key, fingerprint, sleep(Duration::from_secs(1))).await;
        assert!(matches!(waited, Boarding::Elapsed { retry_after } if retry_after == Duration::from_secs(6)));
        drop(lead);
        assert!(flights.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn other_payloads_and_other_keys_fly_alone() {
        let flights = Flights::new();
        let _lead = lead(&flights).await;
        let (key, fingerprint) = id();
        let other_key = Key::new("scope", "other name").unwrap();
        for (key, fingerprint) in [(key, Fingerprint::of(["other payload"])), (other_key, fingerprint)] {
            assert!(matches!(flights.board(&key, fingerprint, pending()).await, Boarding::Lead(_)));
        }
    }
}
