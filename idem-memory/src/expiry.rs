//! [`ExpiryQueue`]: the keys of all records, ordered by when each record may be removed.
//!
//! Why a queue, and not a walk through the map: `DashMap` cannot visit a few entries and continue later, so a walk
//! always costs a visit to every record. The queue finds the expired records and touches no others. It costs about 40
//! bytes for each record. Each part is a sorted ring buffer, because nearly every key enters and moves at its back:
//! later requests expire later. A store that mixes short and long retentions moves up to half of a part instead, which
//! takes microseconds.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;

use idem_core::Key;
use idem_core::store::Timestamp;

use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

/// How many parts the queue has, each with its own lock, so that threads rarely wait for each other.
const PARTS: usize = if cfg!(shuttle) { 1 } else { 64 };

/// Keys with the instants from which their records may be removed.
#[derive(Debug)]
pub(crate) struct ExpiryQueue {
    parts: Box<[Mutex<Part>]>,
    /// The part that is searched next.
    next: AtomicUsize,
}

/// Sorted, the earliest instant first.
type Part = VecDeque<(Timestamp, Key)>;

impl ExpiryQueue {
    pub(crate) fn new() -> Self {
        Self { parts: (0..PARTS).map(|_| Mutex::default()).collect(), next: AtomicUsize::new(0) }
    }

    /// Adds a key to a part. Any number names a part; it has to be the same number when the key moves.
    pub(crate) fn insert(&self, part: usize, key: &Key, at: Timestamp) {
        insert(&mut self.part(part), key.clone(), at);
    }

    /// Moves a key from one instant to another. If a sweep has just taken the key, this only inserts it.
    pub(crate) fn move_to(&self, part: usize, key: &Key, from: Timestamp, to: Timestamp) {
        if from != to {
            let mut part = self.part(part);
            let moved = remove(&mut part, key, from).unwrap_or_else(|| key.clone());
            insert(&mut part, moved, to);
        }
    }

    /// Returns the part to search next; all parts take turns.
    pub(crate) fn next_part(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a key that is due at `now` from this part.
    pub(crate) fn pop_due_in_part(&self, part: usize, now: Timestamp) -> Option<Key> {
        pop_due(&mut self.part(part), now)
    }

    /// Takes a key that is due at `now` from any part.
    pub(crate) fn pop_due(&self, now: Timestamp) -> Option<Key> {
        let start = self.next.load(Ordering::Relaxed);
        (start..start + PARTS).find_map(|part| {
            let key = self.pop_due_in_part(part, now)?;
            self.next.store(part % PARTS, Ordering::Relaxed);
            Some(key)
        })
    }

    /// All keys with their instants.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> Vec<(Timestamp, Key)> {
        self.parts.iter().flat_map(|part| lock(part).clone()).collect()
    }

    fn part(&self, part: usize) -> MutexGuard<'_, Part> {
        lock(&self.parts[part % PARTS])
    }
}

/// No code of a user runs under this lock, so a poisoned one means a bug. The store then continues with what is there.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert(part: &mut Part, key: Key, at: Timestamp) {
    match position(part, &key, at) {
        back if back == part.len() => part.push_back((at, key)),
        position => part.insert(position, (at, key)),
    }
}

fn remove(part: &mut Part, key: &Key, at: Timestamp) -> Option<Key> {
    let position = position(part, key, at);
    let is_there = part.get(position).is_some_and(|(_, other)| other == key);
    let removed = match position {
        _ if !is_there => None,
        back if back + 1 == part.len() => part.pop_back(),
        position => part.remove(position),
    };
    removed.map(|(_, key)| key)
}

/// Where the key is at this instant, or where it would have to be inserted.
fn position(part: &Part, key: &Key, at: Timestamp) -> usize {
    match part.back().map(|(last_at, last)| (*last_at, last).cmp(&(at, key))) {
        None | Some(Less) => part.len(),
        Some(Equal) => part.len() - 1,
        Some(Greater) => part.partition_point(|(other_at, other)| (*other_at, other) < (at, key)),
    }
}

fn pop_due(part: &mut Part, now: Timestamp) -> Option<Key> {
    let (at, _) = part.front()?;
    if *at <= now { part.pop_front().map(|(_, key)| key) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: u8) -> Key {
        Key::new("scope", [name]).unwrap()
    }

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_key_is_due_at_its_instant_and_taken_once() {
        let queue = ExpiryQueue::new();
        queue.insert(7, &key(1), at(100));
        assert_eq!((queue.pop_due(at(99)), queue.pop_due_in_part(7, at(99))), (None, None));
        assert_eq!((queue.pop_due(at(100)), queue.pop_due(at(100))), (Some(key(1)), None));
        queue.insert(7, &key(1), at(100));
        assert_eq!(queue.pop_due_in_part(8, at(100)), None, "another part");
        assert_eq!(queue.pop_due_in_part(7, at(100)), Some(key(1)));
    }

    #[test]
    fn the_earliest_key_of_a_part_is_taken_first() {
        let queue = ExpiryQueue::new();
        for (name, micros) in [(1, 300), (2, 100), (3, 200), (4, 200), (5, 400)] {
            queue.insert(0, &key(name), at(micros));
        }
        queue.move_to(0, &key(4), at(200), at(150));
        let next = || queue.pop_due(at(300));
        assert_eq!(
            [next(), next(), next(), next(), next()],
            [2, 4, 3, 1, 0].map(|name| (name > 0).then(|| key(name)))
        );
    }

    #[test]
    fn a_moved_key_is_due_at_its_new_instant_only() {
        let queue = ExpiryQueue::new();
        queue.insert(0, &key(1), at(100));
        queue.move_to(0, &key(1), at(100), at(200));
        assert_eq!(queue.entries(), [(at(200), key(1))]);
        assert_eq!(queue.pop_due(at(200)), Some(key(1)));
        queue.move_to(0, &key(1), at(200), at(300));
        assert_eq!(queue.entries(), [(at(300), key(1))], "taken before it was moved");
    }

    #[test]
    fn all_parts_take_turns() {
        let queue = ExpiryQueue::new();
        for part in 0..PARTS {
            queue.insert(part, &key(1), at(1));
        }
        assert!((0..PARTS).all(|_| queue.pop_due_in_part(queue.next_part(), at(1)).is_some()));
    }

    #[test]
    fn keys_of_all_parts_are_found() {
        let queue = ExpiryQueue::new();
        for name in 0..200 {
            queue.insert(usize::from(name), &key(name), at(1));
        }
        let mut found: Vec<_> = std::iter::from_fn(|| queue.pop_due(at(1))).collect();
        found.sort();
        assert_eq!(found, (0..200).map(key).collect::<Vec<_>>());
    }
}
