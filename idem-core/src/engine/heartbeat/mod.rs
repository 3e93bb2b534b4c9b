//! [`Heartbeat`]: renews all live leases of an engine, with one task for each runtime.
//!
//! INV-1: a run is in a queue from its grant to its settlement. So the queues are also the list of the live runs.
//! INV-2: nothing is awaited and no store is called under the lock.
//! INV-3: a [`RenewalHandle`] never touches an entry of another run, also when its slot is used again: the serial
//! numbers differ.
//! INV-4: renewals that failed before take at most half of the places, so that a part of the store that hangs does not
//! keep other leases from being renewed. Each 128 leases of a part that begins to hang delay the others once, by one
//! [`LONGEST_SILENCE`]. A lease of a minute outlives a thousand of them.

mod queue;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::heartbeat::queue::{Cadence, RenewalQueue, Slot};
use crate::engine::run::Run;
use crate::error::{Effect, Operation, StoreError, StoreErrorKind};
use crate::observe;
use crate::store::{RenewOutcome, ReservationStore, Span};
use crate::sync::{Mutex, lock};

/// How many renewals one runtime sends at once. Enough to renew a hundred thousand leases of a minute over a link of ten
/// milliseconds, and few enough to leave a shared connection to the requests.
const RENEWALS_AT_ONCE: usize = 128;

/// The resolution of tokio's timers. A shorter interval would only spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// How long one renewal may stay unanswered.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);

pub(crate) struct Heartbeat {
    store: Arc<dyn ReservationStore>,
    lease: Span,
    /// How long a run is renewed, counted from its reservation.
    max_renewal: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One for each runtime that uses the engine; nearly always one.
    queues: Vec<RenewalQueue>,
    next_serial: u64,
    /// The engine was dropped: the drivers end.
    is_closed: bool,
}

/// Names one entry of a queue.
#[derive(Clone, Copy)]
pub(crate) struct RenewalHandle {
    runtime: Id,
    slot: Slot,
}

impl Heartbeat {
    pub(crate) fn new(store: Arc<dyn ReservationStore>, lease: Span, max_renewal: Duration) -> Arc<Self> {
        Arc::new(Self { store, lease, max_renewal, state: Mutex::default() })
    }

    /// Renews the lease of a run from now on, on the given runtime, until [`remove`](Self::remove).
    pub(crate) fn register(
        self: &Arc<Self>,
        runtime: &Handle,
        run: Arc<Run>,
        sent_at: Instant,
    ) -> RenewalHandle {
        let id = runtime.id();
        let due = sent_at + self.interval(Cadence::Steady);
        let mut state = lock(&self.state);
        let serial = state.next_serial;
        state.next_serial += 1;

        let known = state.queues.iter().position(|queue| queue.runtime == id);
        let index = known.unwrap_or(state.queues.len());
        if known.is_none() {
            state.queues.push(RenewalQueue::new(id, Arc::new(Notify::new())));
        }
        let queue = &mut state.queues[index];
        let slot = queue.insert(serial, run, due);
        let new_driver = known.is_none().then(|| Arc::clone(&queue.wake));
        drop(state);

        if let Some(wake) = new_driver {
            // Not under the lock: a runtime that is shutting down drops the driver at once, and its `drop` locks.
            runtime.spawn(Driver { heartbeat: Arc::clone(self), runtime: id, wake }.run());
        }
        RenewalHandle { runtime: id, slot }
    }

    /// Ends the renewal. Does nothing if it was ended before.
    pub(crate) fn remove(&self, handle: RenewalHandle) {
        let mut state = lock(&self.state);
        let removed = state.queue(handle.runtime).and_then(|queue| queue.remove(handle.slot));
        drop(state);
        // Dropped after the lock: this may be the last use of the run, which frees its key.
        drop(removed);
    }

    /// All live runs, in no particular order.
    pub(crate) fn live(&self) -> Vec<Arc<Run>> {
        lock(&self.state).queues.iter().flat_map(RenewalQueue::runs).collect()
    }

    /// Ends the drivers. Called when the engine is dropped. No run is live then, since each reservation keeps its engine.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.queues.iter().for_each(|queue| queue.wake.notify_one());
    }

    fn interval(&self, cadence: Cadence) -> Duration {
        let interval = match cadence {
            Cadence::Steady => self.lease.as_duration() / 3,
            Cadence::Hurried => self.lease.as_duration() / 12,
        };
        interval.max(SHORTEST_INTERVAL)
    }

    /// Renews one lease. Returns when to renew it again, or `None` for never.
    async fn renew(&self, run: &Run) -> Option<Cadence> {
        // Only runs with a lease are registered.
        let lease = run.lease.as_ref()?;
        let sent_at = Instant::now();
        // The last renewals ask for the rest only, so that the key is held for `max_renewal` and no longer.
        let left = (lease.since + self.max_renewal).saturating_duration_since(sent_at);
        let Ok(left) = Span::new(left) else {
            observe::heartbeat_ended(run);
            return None;
        };
        let renewal = self.store.renew(&run.key, run.owner, self.lease.min(left));
        let silence = self.interval(Cadence::Hurried).min(LONGEST_SILENCE);
        let result = timeout(silence, renewal).await.unwrap_or_else(|_elapsed| {
            Err(StoreError::new(StoreErrorKind::Timeout, Effect::Unknown, Operation::Renew))
        });
        match result {
            Ok(RenewOutcome::Renewed { lease_left }) => {
                lease.renewed(sent_at, lease_left);
                Some(Cadence::Steady)
            }
            Ok(RenewOutcome::Lost) => {
                lease.lose();
                observe::lease_lost(run);
                None
            }
            // The completion has arrived; its caller is about to remove the entry.
            Ok(RenewOutcome::AlreadyCompleted) => None,
            Err(error) => {
                observe::renewal_failed(run, &error);
                Some(Cadence::Hurried)
            }
        }
    }
}

impl State {
    fn queue(&mut self, runtime: Id) -> Option<&mut RenewalQueue> {
        self.queues.iter_mut().find(|queue| queue.runtime == runtime)
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
                let mut state = lock(&self.heartbeat.state);
                if state.is_closed {
                    return;
                }
                let Some(queue) = state.queue(self.runtime) else { return };
                for (slot, cadence, run) in queue.take_due(Instant::now(), free, RENEWALS_AT_ONCE / 2) {
                    let handle = RenewalHandle { runtime: self.runtime, slot };
                    let heartbeat = Arc::clone(&self.heartbeat);
                    let next = Some(Cadence::Hurried);
                    renewals.spawn(Renewal { heartbeat, handle, cadence, run, next }.run());
                }
                queue.sleep(RENEWALS_AT_ONCE / 2)
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

/// A driver ends with its engine or with its runtime. In the second case its queue is removed, so that a later runtime
/// with the same id starts a driver of its own. The leases in the queue run out: their runs ended with the runtime.
impl Drop for Driver {
    fn drop(&mut self) {
        lock(&self.heartbeat.state).queues.retain(|queue| !Arc::ptr_eq(&queue.wake, &self.wake));
    }
}

/// One renewal in progress. However it ends, also by a panic of the store, its entry returns to the queue.
struct Renewal {
    heartbeat: Arc<Heartbeat>,
    handle: RenewalHandle,
    cadence: Cadence,
    run: Arc<Run>,
    /// In which list the entry is put back.
    next: Option<Cadence>,
}

impl Renewal {
    async fn run(mut self) {
        self.next = self.heartbeat.renew(&self.run).await;
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        let due = self.next.map(|cadence| (cadence, Instant::now() + self.heartbeat.interval(cadence)));
        let mut state = lock(&self.heartbeat.state);
        if let Some(queue) = state.queue(self.handle.runtime) {
            queue.put_back(self.handle.slot, self.cadence, due);
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::Key;

    fn heartbeat() -> Arc<Heartbeat> {
        let store = Arc::new(crate::store::tests::FailingStore);
        Heartbeat::new(store, Span::new(Duration::from_secs(60)).unwrap(), Duration::from_secs(600))
    }

    fn run() -> Arc<Run> {
        Arc::new(Run::unprotected(&Key::new("scope", "name").unwrap()))
    }

    #[tokio::test]
    async fn a_handle_never_touches_the_next_user_of_its_slot() {
        let (heartbeat, runtime) = (heartbeat(), Handle::current());
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
    fn a_queue_is_removed_with_its_runtime() {
        let heartbeat = heartbeat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        heartbeat.register(runtime.handle(), run(), Instant::now());
        assert_eq!(heartbeat.live().len(), 1);
        drop(runtime);
        assert_eq!(lock(&heartbeat.state).queues.len(), 0);
    }
}
