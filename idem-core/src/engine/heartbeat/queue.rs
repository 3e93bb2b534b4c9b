//! [`RenewalQueue`]: the leases that are renewed in one runtime, in the order in which they are due.
//!
//! Leases that are renewed come back after a fixed interval, so each new due time is nearly always the last: a
//! [`VecDeque`] is a sorted list. A lease whose renewal failed comes back sooner, through a second list with an interval
//! of its own.
//!
//! INV-1: each list is in the order of due times. An entry that is due before the last one (its reservation took long)
//! is inserted at its place.
//! INV-2: an entry is in one list, or in none while its renewal is in progress. A removed entry stays in its list until
//! it is due or the list is cleaned, and is skipped: its serial number is not in the slab any more.

use std::collections::VecDeque;
use std::sync::Arc;

use slab::Slab;
use tokio::runtime::Id;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::engine::run::Run;

/// A list is cleaned when it is this much longer than twice the number of entries.
const MAX_EXCESS: usize = 64;

pub(crate) struct RenewalQueue {
    pub(crate) runtime: Id,
    /// Wakes the driver.
    pub(crate) wake: Arc<Notify>,
    entries: Slab<Entry>,
    steady: List,
    hurried: List,
    /// How many hurried renewals are in progress.
    hurried_in_progress: usize,
    /// How long the driver sleeps; `None` while it is awake. It is woken for entries that are due earlier.
    sleep: Option<Sleep>,
}

struct Entry {
    serial: u64,
    run: Arc<Run>,
}

type List = VecDeque<(Instant, Slot)>;

#[derive(Clone, Copy)]
enum Sleep {
    Until(Instant),
    UntilWoken,
}

/// How soon an entry is due again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cadence {
    Steady,
    /// Its last renewal failed.
    Hurried,
}

/// Names one entry, and never a later one with the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    index: usize,
    serial: u64,
}

impl RenewalQueue {
    pub(crate) fn new(runtime: Id, wake: Arc<Notify>) -> Self {
        Self {
            runtime,
            wake,
            entries: Slab::new(),
            steady: List::new(),
            hurried: List::new(),
            hurried_in_progress: 0,
            sleep: None,
        }
    }

    pub(crate) fn insert(&mut self, serial: u64, run: Arc<Run>, due: Instant) -> Slot {
        let slot = Slot { index: self.entries.insert(Entry { serial, run }), serial };
        self.enqueue(slot, Cadence::Steady, due);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Arc<Run>> {
        run_at(&self.entries, slot)?;
        Some(self.entries.remove(slot.index).run)
    }

    /// The runs of all entries, in no particular order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Arc<Run>> + '_ {
        self.entries.iter().map(|(_, entry)| Arc::clone(&entry.run))
    }

    /// Takes at most `limit` due entries out of the lists, and hurried ones only while fewer than `hurried_limit` of
    /// them are in progress. Each has to be [put back](Self::put_back).
    pub(crate) fn take_due(
        &mut self,
        now: Instant,
        limit: usize,
        hurried_limit: usize,
    ) -> Vec<(Slot, Cadence, Arc<Run>)> {
        let mut due = Vec::new();
        while due.len() < limit {
            let Some((_, cadence)) = self.first(hurried_limit).filter(|(instant, _)| *instant <= now) else {
                break;
            };
            let Some((_, slot)) = self.list(cadence).pop_front() else { break };
            let Some(run) = run_at(&self.entries, slot).map(Arc::clone) else { continue };
            if cadence == Cadence::Hurried {
                self.hurried_in_progress += 1;
            }
            due.push((slot, cadence, run));
        }
        due
    }

    /// Puts an entry that was taken out of one list back into the next, unless it was removed meanwhile.
    pub(crate) fn put_back(&mut self, slot: Slot, taken_at: Cadence, next: Option<(Cadence, Instant)>) {
        if taken_at == Cadence::Hurried {
            self.hurried_in_progress -= 1;
        }
        if let (Some(_), Some((cadence, due))) = (run_at(&self.entries, slot), next) {
            self.enqueue(slot, cadence, due);
        }
    }

    /// The driver goes to sleep: until the returned instant, or until it is woken if there is none.
    pub(crate) fn sleep(&mut self, hurried_limit: usize) -> Option<Instant> {
        let next = self.first(hurried_limit).map(|(due, _)| due);
        self.sleep = Some(next.map_or(Sleep::UntilWoken, Sleep::Until));
        next
    }

    fn list(&mut self, cadence: Cadence) -> &mut List {
        match cadence {
            Cadence::Steady => &mut self.steady,
            Cadence::Hurried => &mut self.hurried,
        }
    }

    /// When the next entry is due, and in which list it is.
    fn first(&mut self, hurried_limit: usize) -> Option<(Instant, Cadence)> {
        let steady = first_of(&mut self.steady, &self.entries).map(|due| (due, Cadence::Steady));
        let hurried = first_of(&mut self.hurried, &self.entries).map(|due| (due, Cadence::Hurried));
        let hurried = hurried.filter(|_| self.hurried_in_progress < hurried_limit);
        [steady, hurried].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    fn enqueue(&mut self, slot: Slot, cadence: Cadence, due: Instant) {
        let max_len = 2 * self.entries.len() + MAX_EXCESS;
        let list = match cadence {
            Cadence::Steady => &mut self.steady,
            Cadence::Hurried => &mut self.hurried,
        };
        if list.len() >= max_len {
            list.retain(|(_, slot)| run_at(&self.entries, *slot).is_some());
        }
        let is_last = list.back().is_none_or(|(last, _)| *last <= due);
        let position = if is_last { list.len() } else { list.partition_point(|(other, _)| *other <= due) };
        list.insert(position, (due, slot));

        let is_early = match self.sleep {
            Some(Sleep::Until(instant)) => due < instant,
            Some(Sleep::UntilWoken) => true,
            None => false,
        };
        if is_early {
            self.sleep = None;
            self.wake.notify_one();
        }
    }
}

fn run_at(entries: &Slab<Entry>, slot: Slot) -> Option<&Arc<Run>> {
    entries.get(slot.index).filter(|entry| entry.serial == slot.serial).map(|entry| &entry.run)
}

/// When the first entry of a list is due. Drops the removed ones before it.
fn first_of(list: &mut List, entries: &Slab<Entry>) -> Option<Instant> {
    while let Some((due, slot)) = list.front() {
        if run_at(entries, *slot).is_some() {
            return Some(*due);
        }
        list.pop_front();
    }
    None
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::*;
    use crate::Key;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue() -> RenewalQueue {
        RenewalQueue::new(Handle::current().id(), Arc::new(Notify::new()))
    }

    fn run() -> Arc<Run> {
        Arc::new(Run::unprotected(&Key::new("scope", "name").unwrap()))
    }

    #[tokio::test]
    async fn due_entries_come_out_in_the_order_of_their_due_times_and_removed_ones_never() {
        let (start, mut queue) = (Instant::now(), queue());
        // Entries in the queue, and entries that were taken out.
        let (mut queued, mut taken) = (Vec::<(Duration, Slot, Cadence)>::new(), Vec::new());
        for serial in 0..10_000 {
            let [choice, hurried, delay, limit] = getrandom::u32().unwrap().to_le_bytes();
            let delay = Duration::from_millis(delay.into());
            match choice % 4 {
                0 => {
                    let slot = queue.insert(serial, run(), start + delay);
                    queued.push((delay, slot, Cadence::Steady));
                }
                1 if !queued.is_empty() => {
                    let (_, slot, _) = queued.remove(usize::from(hurried) % queued.len());
                    assert!(queue.remove(slot).is_some() && queue.remove(slot).is_none());
                }
                2 if !taken.is_empty() => {
                    let (slot, cadence) = taken.pop().unwrap();
                    let next = if hurried < 160 { Cadence::Steady } else { Cadence::Hurried };
                    queue.put_back(slot, cadence, Some((next, start + delay)));
                    queued.push((delay, slot, next));
                }
                _ => {
                    let limit = usize::from(limit % 4);
                    // Stable, so that the first of two with one due time comes first.
                    queued.sort_by_key(|(delay, _, _)| *delay);
                    let due = queue.take_due(start + delay, limit, usize::MAX);
                    let expected = queued.iter().filter(|(other, _, _)| *other <= delay).take(limit);
                    let delays: Vec<_> = expected.map(|(delay, _, _)| *delay).collect();
                    assert_eq!(due.len(), delays.len());
                    for ((slot, cadence, _), delay) in due.into_iter().zip(delays) {
                        let index = queued.iter().position(|entry| entry.1 == slot).unwrap();
                        let (own_delay, _, own_cadence) = queued.remove(index);
                        assert_eq!((own_delay, own_cadence), (delay, cadence));
                        taken.push((slot, cadence));
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn runs_that_end_early_leave_no_more_than_a_few_places_behind() {
        let (start, mut queue) = (Instant::now(), queue());
        let _live = queue.insert(0, run(), start);
        for serial in 1..10_000 {
            let slot = queue.insert(serial, run(), start + SECOND);
            queue.remove(slot);
            assert!(queue.steady.len() <= 2 * 2 + MAX_EXCESS + 1, "{}", queue.steady.len());
        }
        assert_eq!(queue.runs().count(), 1);
    }

    #[tokio::test]
    async fn no_more_entries_are_taken_than_the_limit() {
        let (now, mut queue) = (Instant::now(), queue());
        for serial in 0..5 {
            queue.insert(serial, run(), now);
        }
        assert_eq!([0, 2, 9].map(|limit| queue.take_due(now, limit, 9).len()), [0, 2, 3]);
    }

    #[tokio::test]
    async fn the_driver_is_woken_only_for_entries_that_are_due_before_its_wake_up_time() {
        let (now, mut queue) = (Instant::now(), queue());
        let was_woken = |queue: &RenewalQueue| is_ready(queue.wake.notified());
        assert_eq!(queue.sleep(1), None);
        queue.insert(1, run(), now + SECOND * 20);
        assert!(was_woken(&queue));
        assert_eq!(queue.sleep(1), Some(now + SECOND * 20));
        // An entry that is due at the same instant is not due earlier.
        for (serial, delay) in [(2, SECOND * 30), (3, SECOND * 20)] {
            queue.insert(serial, run(), now + delay);
            assert!(!was_woken(&queue));
        }
        queue.insert(4, run(), now + SECOND * 10);
        assert!(was_woken(&queue));
        assert_eq!(queue.sleep(1), Some(now + SECOND * 10));
    }

    /// Whether a future is ready at its first poll.
    fn is_ready(future: impl Future) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn hurried_renewals_never_exceed_their_limit() {
        let (now, mut queue) = (Instant::now(), queue());
        for serial in 0..5 {
            queue.insert(serial, run(), now);
        }
        for (slot, cadence, _) in queue.take_due(now, 5, 0) {
            queue.put_back(slot, cadence, Some((Cadence::Hurried, now)));
        }
        for serial in 5..10 {
            queue.insert(serial, run(), now);
        }
        let due = queue.take_due(now, 10, 2);
        assert_eq!(due.iter().filter(|(_, cadence, _)| *cadence == Cadence::Hurried).count(), 2);
        assert_eq!(due.len(), 7);
        assert_eq!(queue.sleep(2), None, "the rest waits until one of the two is put back");
        let (slot, cadence, _) = due.iter().find(|(_, cadence, _)| *cadence == Cadence::Hurried).unwrap();
        queue.put_back(*slot, *cadence, Some((Cadence::Steady, now + SECOND * 20)));
        assert_eq!(queue.sleep(2), Some(now));
    }

    #[tokio::test]
    async fn an_entry_that_was_removed_during_its_renewal_does_not_come_back() {
        let (now, mut queue) = (Instant::now(), queue());
        queue.insert(1, run(), now);
        let (slot, cadence, _) = queue.take_due(now, 1, 1).remove(0);
        assert!(queue.remove(slot).is_some());
        assert!(queue.remove(slot).is_none());
        let successor = queue.insert(2, run(), now);
        assert_eq!(successor.index, slot.index);
        queue.put_back(slot, cadence, Some((Cadence::Hurried, now)));
        assert_eq!(queue.take_due(now, 10, 10).len(), 1);
    }
}
