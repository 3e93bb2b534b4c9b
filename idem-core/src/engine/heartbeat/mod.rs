//! The heartbeat: one task per engine and runtime that renews every live lease from a single queue.
//!
//! INV-1: a reservation is in the queue from the moment that it was granted until it is settled, so the queue is also
//! the engine's list of what is live.
//! INV-2: nothing is awaited and no store is called under the lock.
//! INV-3: a [`RenewalHandle`] never touches another's entry, also when its slot was used again: the serial numbers differ.
//! INV-4: renewals that failed before use at most half of the places, so that a part of the store that hangs does not
//! keep the leases of the rest from being renewed. What hangs is noticed once: each 128 leases of a part that begins
//! to hang delay the others by one [`LONGEST_SILENCE`], so a thousand of them are outlived by a lease of a minute.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::heartbeat::queue::{Lane, Pace, Slot};
use crate::engine::run::Run;
use crate::store::Span;
use crate::sync::{Mutex, lock};
use crate::{Effect, Operation, RenewOutcome, ReservationStore, StoreError, StoreErrorKind, observe};

/// How many renewals may be under way at once in one runtime. Enough to renew a hundred thousand leases of a minute
/// over a link of ten milliseconds; few enough to leave a shared connection to the requests.
const RENEWALS_AT_ONCE: usize = 128;

/// The resolution of tokio's timers; less would only spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// How long one renewal may stay unanswered.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

pub(crate) struct Heartbeat {
    store: Arc<dyn ReservationStore>,
    lease: Span,
    /// How long after its reservation an owner is renewed at the most.
    at_most: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// One per runtime that the engine is used from; nearly always one.
    lanes: Vec<Lane>,
    next_serial: u64,
    /// The engine is gone: drivers end.
    closed: bool,
}

/// Names one entry of the queue.
#[derive(Clone, Copy)]
pub(crate) struct RenewalHandle {
    runtime: Id,
    slot: Slot,
}

impl Heartbeat {
    pub(crate) fn new(store: Arc<dyn ReservationStore>, lease: Span, at_most: Duration) -> Arc<Self> {
        Arc::new(Self { store, lease, at_most, queue: Mutex::default() })
    }

    /// Renews the lease from now on, on the given runtime, until [`remove`](Self::remove).
    pub(crate) fn register(
        self: &Arc<Self>,
        runtime: &Handle,
        run: Arc<Run>,
        sent_at: Instant,
    ) -> RenewalHandle {
        let id = runtime.id();
        let due = sent_at + self.interval(Pace::Steady);
        let mut queue = lock(&self.queue);
        let serial = queue.next_serial;
        queue.next_serial += 1;

        let known = queue.lanes.iter().position(|lane| lane.runtime == id);
        let index = known.unwrap_or(queue.lanes.len());
        if known.is_none() {
            queue.lanes.push(Lane::new(id, Arc::new(Notify::new())));
        }
        let lane = &mut queue.lanes[index];
        let slot = lane.insert(serial, run, due);
        let new_lane = known.is_none().then(|| Arc::clone(&lane.wake));
        drop(queue);

        if let Some(wake) = new_lane {
            // Not under the lock: a runtime that is shutting down drops the driver at once, and its end takes the lock.
            runtime.spawn(Driver { heartbeat: Arc::clone(self), runtime: id, wake }.run());
        }
        RenewalHandle { runtime: id, slot }
    }

    /// Ends the renewal. A ticket that was removed before does nothing.
    pub(crate) fn remove(&self, ticket: RenewalHandle) {
        let mut queue = lock(&self.queue);
        // Dropped after the lock is let go: the last of it may free a key.
        let removed = queue.lane(ticket.runtime).and_then(|lane| lane.remove(ticket.slot));
        drop(queue);
        drop(removed);
    }

    /// Every live run, in no particular order.
    pub(crate) fn live(&self) -> Vec<Arc<Run>> {
        lock(&self.queue).lanes.iter().flat_map(Lane::runs).collect()
    }

    /// Lets the drivers end. Called when the engine is dropped; nothing is live then, since each reservation keeps
    /// its engine.
    pub(crate) fn close(&self) {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.lanes.iter().for_each(|lane| lane.wake.notify_one());
    }

    fn interval(&self, pace: Pace) -> Duration {
        let interval = match pace {
            Pace::Steady => self.lease.as_duration() / 3,
            Pace::Hurried => self.lease.as_duration() / 12,
        };
        interval.max(SHORTEST_INTERVAL)
    }

    /// Renews one lease. How it is to go on: at which pace, or not at all.
    async fn renew(&self, run: &Run) -> Option<Pace> {
        // Only runs with a lease are registered.
        let lease = run.lease.as_ref()?;
        let sent_at = Instant::now();
        // The last renewals ask for no more than what is left, so that the key is held for `at_most` and no longer.
        let left = (lease.since + self.at_most).saturating_duration_since(sent_at);
        let Ok(left) = Span::new(left) else {
            observe::heartbeat_ended(run);
            return None;
        };
        let renewal = self.store.renew(&run.key, run.owner, self.lease.min(left));
        let silence = self.interval(Pace::Hurried).min(LONGEST_SILENCE);
        let result = timeout(silence, renewal).await.unwrap_or_else(|_elapsed| {
            Err(StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Renew))
        });
        match result {
            Ok(RenewOutcome::Renewed { lease_left }) => {
                lease.renewed(sent_at, lease_left);
                Some(Pace::Steady)
            }
            Ok(RenewOutcome::Lost) => {
                lease.lose();
                observe::lease_lost(run);
                None
            }
            // The completion has landed; its caller is about to remove the entry.
            Ok(RenewOutcome::AlreadyCompleted) => None,
            Err(error) => {
                observe::renewal_failed(run, &error);
                Some(Pace::Hurried)
            }
        }
    }
}

impl Queue {
    fn lane(&mut self, runtime: Id) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.runtime == runtime)
    }
}

/// The task that renews the leases of one runtime.
struct Driver {
    heartbeat: Arc<Heartbeat>,
    runtime: Id,
    wake: Arc<Notify>,
}

impl Driver {
    async fn run(self) {
        let mut renewals = JoinSet::new();
        loop {
            let free = RENEWALS_AT_ONCE - renewals.len();
            let next = {
                let mut queue = lock(&self.heartbeat.queue);
                if queue.closed {
                    return;
                }
                let Some(lane) = queue.lane(self.runtime) else { return };
                for (slot, pace, run) in lane.take_due(Instant::now(), free, RENEWALS_AT_ONCE / 2) {
                    let ticket = RenewalHandle { runtime: self.runtime, slot };
                    let heartbeat = Arc::clone(&self.heartbeat);
                    renewals.spawn(Renewal { heartbeat, ticket, pace, run, next: Some(Pace::Hurried) }.run());
                }
                lane.sleep(RENEWALS_AT_ONCE / 2)
            };
            let has_room = renewals.len() < RENEWALS_AT_ONCE;
            tokio::select! {
                Some(_) = renewals.join_next() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && has_room => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

/// A driver ends with its engine or with its runtime. In the second case the lane goes too, so that a later use of the
/// engine in another runtime, which may have the same id, starts a driver of its own; what was live in the lane ended
/// with the runtime, and its leases run out.
impl Drop for Driver {
    fn drop(&mut self) {
        lock(&self.heartbeat.queue).lanes.retain(|lane| !Arc::ptr_eq(&lane.wake, &self.wake));
    }
}

/// One renewal under way. However it ends, by a panic of the store too, its entry goes back into the queue.
struct Renewal {
    heartbeat: Arc<Heartbeat>,
    ticket: RenewalHandle,
    pace: Pace,
    run: Arc<Run>,
    /// At which pace the entry goes back.
    next: Option<Pace>,
}

impl Renewal {
    async fn run(mut self) {
        self.next = self.heartbeat.renew(&self.run).await;
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let due = self.next.map(|pace| (pace, Instant::now() + self.heartbeat.interval(pace)));
        let mut queue = lock(&self.heartbeat.queue);
        if let Some(lane) = queue.lane(self.ticket.runtime) {
            lane.put_back(self.ticket.slot, self.pace, due);
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::Key;

    #[tokio::test]
    async fn a_ticket_never_touches_the_next_user_of_its_slot() {
        let store = Arc::new(crate::store::tests::NoStore);
        let heartbeat =
            Heartbeat::new(store, Span::new(Duration::from_secs(60)).unwrap(), Duration::from_secs(600));
        let runtime = Handle::current();
        let run = || Arc::new(Run::unprotected(&Key::new("scope", "name").unwrap()));
        let first = heartbeat.register(&runtime, run(), Instant::now());
        heartbeat.remove(first);
        let second = heartbeat.register(&runtime, run(), Instant::now());
        heartbeat.remove(first);
        assert_eq!(heartbeat.live().len(), 1);
        heartbeat.remove(second);
        assert_eq!(heartbeat.live().len(), 0);
        heartbeat.close();
    }

    #[test]
    fn a_lane_goes_with_its_runtime() {
        let store = Arc::new(crate::store::tests::NoStore);
        let heartbeat =
            Heartbeat::new(store, Span::new(Duration::from_secs(60)).unwrap(), Duration::from_secs(600));
        let run = Arc::new(Run::unprotected(&Key::new("scope", "name").unwrap()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        heartbeat.register(runtime.handle(), run, Instant::now());
        assert_eq!(heartbeat.live().len(), 1);
        drop(runtime);
        assert_eq!(lock(&heartbeat.queue).lanes.len(), 0);
    }
}
