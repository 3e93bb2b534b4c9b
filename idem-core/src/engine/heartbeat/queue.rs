//! The heartbeat's queue for one runtime: entries in the order in which they are due.
//!
//! All leases of an engine are renewed at the same interval, so new entries are nearly always due last, and a linked
//! list is the whole timer wheel: to put in, to take out and to find the next one due cost the same for one
//! reservation as for a hundred thousand, and the runtime sees one timer. A renewal that failed comes back sooner,
//! through a second list with an interval of its own.
//!
//! INV-1: each list is in the order of its due times. An entry that is due earlier than the last one (its reservation
//! took long) is moved forward to its place.

use std::sync::Arc;

use slab::Slab;
use tokio::runtime::Id;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engine::run::Run;

pub(crate) struct Lane {
    pub(crate) runtime: Id,
    /// Wakes the driver.
    pub(crate) wake: Arc<Notify>,
    entries: Slab<Entry>,
    steady: List,
    hurried: List,
    /// How many hurried renewals are under way.
    hurried_under_way: usize,
    /// Until when the driver sleeps. It is woken for whatever is due before; `None` while it is awake.
    sleeps: Option<Sleep>,
}

#[derive(Clone, Copy)]
enum Sleep {
    Until(Instant),
    UntilWoken,
}

struct Entry {
    serial: u64,
    run: Arc<Run>,
    due: Instant,
    /// Which list the entry is in; none while its renewal is under way, and once it is renewed no more.
    pace: Option<Pace>,
    previous: Option<usize>,
    next: Option<usize>,
}

/// How soon an entry is due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Steady,
    /// Its last renewal failed.
    Hurried,
}

#[derive(Default)]
struct List {
    head: Option<usize>,
    tail: Option<usize>,
}

/// Names one entry; never another that later has the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    index: usize,
    serial: u64,
}

impl Lane {
    pub(crate) fn new(runtime: Id, wake: Arc<Notify>) -> Self {
        Self {
            runtime,
            wake,
            entries: Slab::new(),
            steady: List::default(),
            hurried: List::default(),
            hurried_under_way: 0,
            sleeps: None,
        }
    }

    pub(crate) fn insert(&mut self, serial: u64, run: Arc<Run>, due: Instant) -> Slot {
        let entry = Entry { serial, run, due, pace: None, previous: None, next: None };
        let index = self.entries.insert(entry);
        self.enqueue(index, Pace::Steady, due);
        Slot { index, serial }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Arc<Run>> {
        self.get(slot)?;
        self.dequeue(slot.index);
        Some(self.entries.remove(slot.index).run)
    }

    /// The runs of all entries, in no particular order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Arc<Run>> + '_ {
        self.entries.iter().map(|(_, entry)| Arc::clone(&entry.run))
    }

    /// Takes at most `limit` due entries out of the lists, and of the hurried ones no more than that `hurried_limit`
    /// of them are under way. Each has to be [put back](Self::put_back).
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        limit: usize,
        hurried_limit: usize,
    ) -> Vec<(Slot, Pace, Arc<Run>)> {
        let mut due = Vec::new();
        while due.len() < limit {
            let Some(index) = self.first(hurried_limit).filter(|&index| self.entries[index].due <= now)
            else {
                break;
            };
            let Some(pace) = self.dequeue(index) else { break };
            if pace == Pace::Hurried {
                self.hurried_under_way += 1;
            }
            let entry = &self.entries[index];
            due.push((Slot { index, serial: entry.serial }, pace, Arc::clone(&entry.run)));
        }
        due
    }

    /// Puts an entry that was taken out at one pace back at another, unless it was removed meanwhile.
    pub(crate) fn put_back(&mut self, slot: Slot, taken_at: Pace, next: Option<(Pace, Instant)>) {
        if taken_at == Pace::Hurried {
            self.hurried_under_way -= 1;
        }
        if let (Some(_), Some((pace, due))) = (self.get(slot), next) {
            self.enqueue(slot.index, pace, due);
        }
    }

    /// The driver goes to sleep: until the next entry is due, or until it is woken if there is none.
    pub(crate) fn sleep(&mut self, hurried_limit: usize) -> Option<Instant> {
        let next = self.first(hurried_limit).map(|index| self.entries[index].due);
        self.sleeps = Some(next.map_or(Sleep::UntilWoken, Sleep::Until));
        next
    }

    fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.index).filter(|entry| entry.serial == slot.serial)
    }

    fn list(&mut self, pace: Pace) -> &mut List {
        match pace {
            Pace::Steady => &mut self.steady,
            Pace::Hurried => &mut self.hurried,
        }
    }

    /// The entry that is due first. Each list is in order, so it is one of the two heads.
    fn first(&self, hurried_limit: usize) -> Option<usize> {
        let hurried = self.hurried.head.filter(|_| self.hurried_under_way < hurried_limit);
        let heads = [self.steady.head, hurried];
        heads.into_iter().flatten().min_by_key(|&index| self.entries[index].due)
    }

    fn enqueue(&mut self, index: usize, pace: Pace, due: Instant) {
        let mut previous = self.list(pace).tail;
        let mut next = None;
        while let Some(later) = previous.filter(|&previous| self.entries[previous].due > due) {
            next = Some(later);
            previous = self.entries[later].previous;
        }
        self.link(pace, previous, Some(index));
        self.link(pace, Some(index), next);
        let entry = &mut self.entries[index];
        (entry.due, entry.pace) = (due, Some(pace));

        let is_early = match self.sleeps {
            Some(Sleep::Until(instant)) => due < instant,
            Some(Sleep::UntilWoken) => true,
            None => false,
        };
        if is_early {
            self.sleeps = None;
            self.wake.notify_one();
        }
    }

    /// Takes an entry out of its list, and says which that was.
    fn dequeue(&mut self, index: usize) -> Option<Pace> {
        let entry = &mut self.entries[index];
        let pace = entry.pace.take()?;
        let (previous, next) = (entry.previous.take(), entry.next.take());
        self.link(pace, previous, next);
        Some(pace)
    }

    /// Makes two entries neighbours; `None` is the list's end.
    fn link(&mut self, pace: Pace, previous: Option<usize>, next: Option<usize>) {
        match previous {
            Some(index) => self.entries[index].next = next,
            None => self.list(pace).head = next,
        }
        match next {
            Some(index) => self.entries[index].previous = previous,
            None => self.list(pace).tail = previous,
        }
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::Key;

    fn lane() -> Lane {
        Lane::new(Handle::current().id(), Arc::new(Notify::new()))
    }

    fn run() -> Arc<Run> {
        Arc::new(Run::unprotected(&Key::new("scope", "name").unwrap()))
    }

    /// What is in a list, and that its links agree in both directions.
    fn listed(lane: &Lane, list: &List) -> Vec<usize> {
        let mut indices = Vec::new();
        let (mut previous, mut cursor) = (None, list.head);
        while let Some(index) = cursor {
            assert_eq!(lane.entries[index].previous, previous);
            indices.push(index);
            (previous, cursor) = (cursor, lane.entries[index].next);
        }
        assert_eq!(list.tail, previous);
        indices
    }

    #[tokio::test]
    async fn the_lists_hold_what_was_put_in_and_not_taken_out_in_the_order_of_their_due_times() {
        let (now, mut lane) = (Instant::now(), lane());
        let all: Vec<Slot> = (0..20).map(|serial| lane.insert(serial, run(), now)).collect();
        let mut model: Vec<(Pace, Duration, usize)> = Vec::new();
        for slot in &all {
            lane.dequeue(slot.index);
        }
        for _ in 0..10_000 {
            let [choice, pace, delay, _] = getrandom::u32().unwrap().to_le_bytes();
            let index = all[usize::from(choice) % all.len()].index;
            let is_queued = lane.entries[index].pace.is_some();
            if is_queued {
                lane.dequeue(index);
                model.retain(|(_, _, other)| *other != index);
            } else {
                let pace = if pace < 160 { Pace::Steady } else { Pace::Hurried };
                let delay = Duration::from_millis(delay.into());
                lane.enqueue(index, pace, now + delay);
                model.push((pace, delay, index));
                // Stable, so that of two that are due at once the earlier comes first.
                model.sort_by_key(|(_, delay, _)| *delay);
            }
            for (pace, list) in [(Pace::Steady, &lane.steady), (Pace::Hurried, &lane.hurried)] {
                let expected = model.iter().filter(|entry| entry.0 == pace).map(|entry| entry.2);
                assert_eq!(listed(&lane, list), expected.collect::<Vec<_>>());
            }
        }
    }

    #[tokio::test]
    async fn no_more_are_taken_than_asked_for() {
        let (now, mut lane) = (Instant::now(), lane());
        for serial in 0..5 {
            lane.insert(serial, run(), now);
        }
        assert_eq!([0, 2, 9].map(|limit| lane.take_due(now, limit, 9).len()), [0, 2, 3]);
    }

    #[tokio::test]
    async fn the_driver_is_woken_for_what_is_due_before_it_would_wake_and_for_nothing_else() {
        let (now, mut lane) = (Instant::now(), lane());
        let second = Duration::from_secs(1);
        let was_woken = |lane: &Lane| {
            let mut woken = tokio_test_poll(lane.wake.notified());
            std::mem::take(&mut woken)
        };
        assert_eq!(lane.sleep(1), None);
        lane.insert(1, run(), now + second * 20);
        assert!(was_woken(&lane));
        assert_eq!(lane.sleep(1), Some(now + second * 20));
        // What is due at that very instant is not due before it.
        for (serial, delay) in [(2, second * 30), (3, second * 20)] {
            lane.insert(serial, run(), now + delay);
            assert!(!was_woken(&lane));
        }
        lane.insert(4, run(), now + second * 10);
        assert!(was_woken(&lane));
        assert_eq!(lane.sleep(1), Some(now + second * 10));
    }

    /// Whether a future is ready at its first poll.
    fn tokio_test_poll(future: impl Future) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn hurried_renewals_leave_half_of_the_places_to_the_steady_ones() {
        let (now, mut lane) = (Instant::now(), lane());
        for serial in 0..10 {
            let slot = lane.insert(serial, run(), now);
            if serial < 5 {
                lane.dequeue(slot.index);
                lane.enqueue(slot.index, Pace::Hurried, now);
            }
        }
        let due = lane.take_due(now, 10, 2);
        assert_eq!(due.iter().filter(|(_, pace, _)| *pace == Pace::Hurried).count(), 2);
        assert_eq!(due.len(), 7);
        assert_eq!(lane.sleep(2), None, "the rest has to wait for a place");
        let (slot, pace, _) = due.iter().find(|(_, pace, _)| *pace == Pace::Hurried).unwrap();
        lane.put_back(*slot, *pace, Some((Pace::Steady, now + Duration::from_secs(20))));
        assert_eq!(lane.sleep(2), Some(now));
    }

    #[tokio::test]
    async fn an_entry_that_was_removed_while_it_was_under_way_does_not_come_back() {
        let (now, mut lane) = (Instant::now(), lane());
        lane.insert(1, run(), now);
        let (slot, pace, _) = lane.take_due(now, 1, 1).remove(0);
        assert!(lane.remove(slot).is_some());
        assert!(lane.remove(slot).is_none());
        let successor = lane.insert(2, run(), now);
        assert_eq!(successor.index, slot.index);
        lane.put_back(slot, pace, Some((Pace::Hurried, now)));
        assert_eq!(lane.take_due(now, 10, 10).len(), 1);
    }
}
