//! The heartbeat: one task per engine and runtime that renews every live lease from a single queue.
//!
//! All leases of an engine are renewed at the same interval, so the order of registration is the order of renewal, and
//! a linked list is the whole timer wheel: to register, to remove and to find the next one due cost the same for one
//! reservation as for a hundred thousand, and the runtime sees one timer. A renewal that failed comes back sooner,
//! through a second list with an interval of its own.
//!
//! INV-1: a reservation is in the queue from the moment that it was granted until it is settled, so the queue is also
//! the engine's list of what is live.
//! INV-2: nothing is awaited and no store is called under the lock.
//! INV-3: a [`Ticket`] never touches another's entry, also when its slot was used again: the serial numbers differ.

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::attempt::Ownership;
use crate::sync::{Mutex, lock};
use crate::{RenewOutcome, ReservationStore, observe};

/// How many renewals may be under way at once in one runtime. Enough to renew a hundred thousand leases of a minute
/// over a link of ten milliseconds; few enough to leave a shared connection to the requests.
const RENEWALS_AT_ONCE: usize = 128;

/// The resolution of tokio's timers; less would only spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

pub(crate) struct Heartbeat {
    store: Arc<dyn ReservationStore>,
    lease: Duration,
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

/// The queue of one runtime.
struct Lane {
    runtime: Id,
    entries: Slab<Entry>,
    /// Due an interval after they were put in.
    steady: List,
    /// Due a quarter of an interval after they were put in.
    hurried: List,
    /// The driver sleeps without a timer, until it is woken.
    idle: bool,
    wake: Arc<Notify>,
}

struct Entry {
    serial: u64,
    ownership: Arc<Ownership>,
    due: Instant,
    /// Which list the entry is in; none while its renewal is under way, and once it is renewed no more.
    pace: Option<Pace>,
    previous: Option<usize>,
    next: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Steady,
    Hurried,
}

#[derive(Default)]
struct List {
    head: Option<usize>,
    tail: Option<usize>,
}

/// An entry whose renewal is due.
type Due = (Ticket, Arc<Ownership>);

/// Names one entry of the queue.
#[derive(Clone, Copy)]
pub(crate) struct Ticket {
    runtime: Id,
    slot: usize,
    serial: u64,
}

impl Heartbeat {
    pub(crate) fn new(store: Arc<dyn ReservationStore>, lease: Duration, at_most: Duration) -> Arc<Self> {
        Arc::new(Self { store, lease, at_most, queue: Mutex::default() })
    }

    /// Renews the lease from now on, on the given runtime, until [`remove`](Self::remove).
    pub(crate) fn register(
        self: &Arc<Self>,
        runtime: &Handle,
        ownership: Arc<Ownership>,
        sent: Instant,
    ) -> Ticket {
        let id = runtime.id();
        let mut queue = lock(&self.queue);
        let serial = queue.next_serial;
        queue.next_serial += 1;

        let known = queue.lanes.iter().position(|lane| lane.runtime == id);
        let index = known.unwrap_or(queue.lanes.len());
        if known.is_none() {
            queue.lanes.push(Lane::new(id, Arc::new(Notify::new())));
        }
        let lane = &mut queue.lanes[index];
        let slot = lane.entries.insert(Entry {
            serial,
            ownership,
            due: sent,
            pace: None,
            previous: None,
            next: None,
        });
        lane.enqueue(slot, Pace::Steady, sent + self.interval(Pace::Steady));
        if std::mem::take(&mut lane.idle) {
            lane.wake.notify_one();
        }
        let new_lane = known.is_none().then(|| Arc::clone(&lane.wake));
        drop(queue);

        if let Some(wake) = new_lane {
            // Not under the lock: a runtime that is shutting down drops the driver at once, and its end takes the lock.
            runtime.spawn(Driver { heartbeat: Arc::clone(self), runtime: id, wake }.run());
        }
        Ticket { runtime: id, slot, serial }
    }

    /// Ends the renewal. A ticket that was removed before does nothing.
    pub(crate) fn remove(&self, ticket: Ticket) {
        let mut queue = lock(&self.queue);
        if let Some(lane) = queue.lane_of(ticket) {
            lane.dequeue(ticket.slot);
            lane.entries.remove(ticket.slot);
        }
    }

    /// Every live ownership, in no particular order.
    pub(crate) fn live(&self) -> Vec<Arc<Ownership>> {
        let queue = lock(&self.queue);
        let entries = queue.lanes.iter().flat_map(|lane| lane.entries.iter());
        entries.map(|(_, entry)| Arc::clone(&entry.ownership)).collect()
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
            Pace::Steady => self.lease / 3,
            Pace::Hurried => self.lease / 12,
        };
        interval.max(SHORTEST_INTERVAL)
    }

    /// Takes at most `limit` due entries out of the lists; and the instant at which the next is due, if any is left.
    /// `None` once the driver has to end.
    fn take_due(&self, runtime: Id, limit: usize) -> Option<(Vec<Due>, Option<Instant>)> {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return None;
        }
        let lane = queue.lanes.iter_mut().find(|lane| lane.runtime == runtime)?;
        let now = Instant::now();
        let mut due = Vec::new();
        while due.len() < limit {
            let Some(slot) = lane.first().filter(|&slot| lane.entries[slot].due <= now) else { break };
            lane.dequeue(slot);
            let entry = &lane.entries[slot];
            due.push((Ticket { runtime, slot, serial: entry.serial }, Arc::clone(&entry.ownership)));
        }
        let next = lane.first().map(|slot| lane.entries[slot].due);
        lane.idle = next.is_none();
        Some((due, next))
    }

    /// Renews one lease, and puts it back into the queue if it is to be renewed again.
    async fn renew(self: Arc<Self>, ticket: Ticket, ownership: Arc<Ownership>) {
        // Only runs with a lease are registered.
        let Some(lease) = &ownership.lease else { return };
        let sent = Instant::now();
        // The last renewals ask for no more than what is left, so that the key is held for `at_most` and no longer.
        let left = (lease.since + self.at_most).saturating_duration_since(sent);
        if left.is_zero() {
            observe::heartbeat_ended(&ownership);
            return;
        }
        let renewal = self.store.renew(&ownership.key, ownership.owner, self.lease.min(left));
        match timeout(self.interval(Pace::Steady), renewal).await {
            Ok(Ok(RenewOutcome::Renewed { lease_left })) => {
                lease.renewed(sent, lease_left);
                self.put_back(ticket, Pace::Steady);
            }
            Ok(Ok(RenewOutcome::Lost)) => {
                lease.take();
                observe::lease_lost(&ownership);
            }
            // The completion has landed; its caller is about to remove the entry.
            Ok(Ok(RenewOutcome::AlreadyCompleted)) => {}
            Ok(Err(error)) => {
                observe::renewal_failed(&ownership, &error);
                self.put_back(ticket, Pace::Hurried);
            }
            Err(_elapsed) => self.put_back(ticket, Pace::Hurried),
        }
    }

    fn put_back(&self, ticket: Ticket, pace: Pace) {
        let due = Instant::now() + self.interval(pace);
        let mut queue = lock(&self.queue);
        if let Some(lane) = queue.lane_of(ticket) {
            lane.enqueue(ticket.slot, pace, due);
        }
    }
}

impl Queue {
    /// The lane that holds the ticket's entry, if the entry is still there (INV-3).
    fn lane_of(&mut self, ticket: Ticket) -> Option<&mut Lane> {
        let lane = self.lanes.iter_mut().find(|lane| lane.runtime == ticket.runtime)?;
        let is_there = lane.entries.get(ticket.slot).is_some_and(|entry| entry.serial == ticket.serial);
        is_there.then_some(lane)
    }
}

impl Lane {
    fn new(runtime: Id, wake: Arc<Notify>) -> Self {
        let (steady, hurried) = (List::default(), List::default());
        Self { runtime, entries: Slab::new(), steady, hurried, idle: false, wake }
    }

    fn list(&mut self, pace: Pace) -> &mut List {
        match pace {
            Pace::Steady => &mut self.steady,
            Pace::Hurried => &mut self.hurried,
        }
    }

    /// The entry that is due first. Each list is in the order of its due times, so it is one of the two heads.
    fn first(&self) -> Option<usize> {
        let heads = [self.steady.head, self.hurried.head];
        heads.into_iter().flatten().min_by_key(|&slot| self.entries[slot].due)
    }

    fn enqueue(&mut self, slot: usize, pace: Pace, due: Instant) {
        let tail = self.list(pace).tail.replace(slot);
        match tail {
            Some(tail) => self.entries[tail].next = Some(slot),
            None => self.list(pace).head = Some(slot),
        }
        let entry = &mut self.entries[slot];
        (entry.due, entry.pace, entry.previous, entry.next) = (due, Some(pace), tail, None);
    }

    fn dequeue(&mut self, slot: usize) {
        let entry = &mut self.entries[slot];
        let Some(pace) = entry.pace.take() else { return };
        let (previous, next) = (entry.previous.take(), entry.next.take());
        match previous {
            Some(previous) => self.entries[previous].next = next,
            None => self.list(pace).head = next,
        }
        match next {
            Some(next) => self.entries[next].previous = previous,
            None => self.list(pace).tail = previous,
        }
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
            let Some((due, next)) = self.heartbeat.take_due(self.runtime, free) else { return };
            for (ticket, ownership) in due {
                renewals.spawn(Arc::clone(&self.heartbeat).renew(ticket, ownership));
            }
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

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use super::*;
    use crate::{Key, random};

    fn entry(now: Instant) -> Entry {
        let key = Key::new("scope", "name").unwrap();
        let ownership = Arc::new(Ownership::unprotected(&key));
        Entry { serial: 0, ownership, due: now, pace: None, previous: None, next: None }
    }

    fn slots(lane: &Lane, list: &List) -> Vec<usize> {
        let mut slots = Vec::new();
        let (mut previous, mut cursor) = (None, list.head);
        while let Some(slot) = cursor {
            assert_eq!(lane.entries[slot].previous, previous);
            slots.push(slot);
            (previous, cursor) = (cursor, lane.entries[slot].next);
        }
        assert_eq!(list.tail, previous);
        slots
    }

    #[tokio::test]
    async fn the_lists_hold_what_was_put_in_and_not_taken_out_in_order() {
        let now = Instant::now();
        let mut lane = Lane::new(Handle::current().id(), Arc::new(Notify::new()));
        let all: Vec<usize> = (0..20).map(|_| lane.entries.insert(entry(now))).collect();
        let (mut steady, mut hurried) = (Vec::new(), Vec::new());
        for step in 0..10_000_u32 {
            let [choice, pace, ..] = random::token();
            let slot = all[usize::from(choice) % all.len()];
            if lane.entries[slot].pace.is_some() || pace < 64 {
                lane.dequeue(slot); // A second time does nothing.
                steady.retain(|other| *other != slot);
                hurried.retain(|other| *other != slot);
            } else {
                let (pace, model) =
                    if pace < 160 { (Pace::Steady, &mut steady) } else { (Pace::Hurried, &mut hurried) };
                lane.enqueue(slot, pace, now + Duration::from_millis(step.into()));
                model.push(slot);
            }
            assert_eq!(slots(&lane, &lane.steady), steady);
            assert_eq!(slots(&lane, &lane.hurried), hurried);
            let first = steady.iter().chain(&hurried).min_by_key(|slot| lane.entries[**slot].due);
            assert_eq!(lane.first(), first.copied());
        }
    }

    #[tokio::test]
    async fn a_ticket_never_touches_the_next_user_of_its_slot() {
        let store = Arc::new(crate::store::tests::NoStore);
        let heartbeat = Heartbeat::new(store, Duration::from_secs(60), Duration::from_secs(600));
        let runtime = Handle::current();
        let run = || Arc::clone(&entry(Instant::now()).ownership);
        let first = heartbeat.register(&runtime, run(), Instant::now());
        heartbeat.remove(first);
        let second = heartbeat.register(&runtime, run(), Instant::now());
        assert_eq!(first.slot, second.slot);
        heartbeat.remove(first);
        heartbeat.put_back(first, Pace::Hurried);
        assert_eq!(heartbeat.live().len(), 1);
        heartbeat.remove(second);
        assert_eq!(heartbeat.live().len(), 0);
        heartbeat.close();
    }
}
