//! [`Shard`]: one lock, and behind it the records of those keys that hash to it.
//!
//! A shard is small, so that whatever has to be done to a whole one (its table grows, say) is done in microseconds.
//! The hash table holds 8 bytes for each record, a piece of the hash and the number of a place in the slab; so a table
//! that grows moves those and touches no record.
//!
//! INV-1: `earliest_expiry` is never later than the `expires_at` of any record in the shard. While it is in the
//! future nothing here can be expired, and nobody looks for garbage.
//! INV-2: a record is removed only when it has expired *and* the clock has passed its fence. A fence may run ahead of
//! the clock, by as many takeovers as happened within one microsecond; the key's next life takes its fence from the
//! clock alone, which must therefore be ahead.

use std::mem;

use hashbrown::HashTable;
use idem_core::Key;
use idem_core::store::{Record, Timestamp};

use crate::entry::Entry;
use crate::hash::{KeyHash, KeyHasher, Tag};
use crate::slab::Slab;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

/// A shard. Aligned so that no two share a cache line.
#[repr(align(64))]
#[derive(Debug)]
pub(crate) struct Shard {
    /// Written under the lock. Read without it only to decide whether the shard is worth a look (INV-1).
    earliest_expiry: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    slots: HashTable<Slot>,
    entries: Slab<Entry>,
    /// The place that the sweep looks at next.
    hand: u32,
    /// The earliest expiry among the places that the hand has passed in this cycle: what `earliest_expiry` becomes
    /// when the cycle ends.
    cycle_earliest: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    tag: Tag,
    place: u32,
}

const NEVER: Timestamp = Timestamp::from_micros(u64::MAX);

impl Shard {
    pub(crate) fn new() -> Self {
        Self { earliest_expiry: AtomicU64::new(NEVER.as_micros()), table: Mutex::new(Table::new()) }
    }

    /// Whether a sweep might find something.
    pub(crate) fn may_hold_expired(&self, now: Timestamp) -> bool {
        self.earliest_expiry.load(Ordering::Relaxed) <= now.as_micros()
    }

    pub(crate) fn lock(&self) -> LockedShard<'_> {
        // Nothing that runs under the lock can panic half-way: it is this crate's code, `idem_core::store::transition` and
        // `hashbrown`, and no code of a user. A poisoned lock would mean a bug, and then one lost key is better than
        // a shard that refuses every key from then on.
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        LockedShard { earliest_expiry: &self.earliest_expiry, table }
    }
}

impl Table {
    const fn new() -> Self {
        Self { slots: HashTable::new(), entries: Slab::new(), hand: 0, cycle_earliest: NEVER }
    }
}

/// A shard whose lock is held. It must not outlive the function that took it, and nothing that may run a user's code
/// may be dropped while it lives: that is why the methods hand out what they removed.
#[derive(Debug)]
pub(crate) struct LockedShard<'a> {
    earliest_expiry: &'a AtomicU64,
    table: MutexGuard<'a, Table>,
}

impl LockedShard<'_> {
    /// The place of the key's record.
    pub(crate) fn find(&self, hash: KeyHash, key: &Key) -> Option<u32> {
        let tag = hash.tag();
        let is_the_keys = |slot: &Slot| {
            slot.tag == tag && self.table.entries.get(slot.place).is_some_and(|entry| entry.key() == key)
        };
        self.table.slots.find(tag.spread(), is_the_keys).map(|slot| slot.place)
    }

    /// Takes the record out of a place, for the state machine to look at. Before the lock is let go it is
    /// [given back](Self::give_back), or another one is [put](Self::put) there.
    #[inline]
    pub(crate) fn take(&mut self, place: u32) -> Option<Record> {
        self.table.entries.get_mut(place).map(Entry::take)
    }

    /// Gives the place the record back that was taken out of it and is to stay as it was.
    #[inline]
    pub(crate) fn give_back(&mut self, place: u32, record: Option<Record>) {
        if let (Some(entry), Some(record)) = (self.table.entries.get_mut(place), record) {
            entry.give_back(record);
        }
    }

    /// Puts another record in the place of the one that was taken out of it.
    pub(crate) fn put(&mut self, place: u32, record: Record) {
        self.note_expiry(place, record.expires_at);
        if let Some(entry) = self.table.entries.get_mut(place) {
            entry.put(record);
        }
    }

    /// Adds the record of a key that has none here.
    pub(crate) fn insert(&mut self, hash: KeyHash, key: Key, record: Record) {
        let expires_at = record.expires_at;
        let tag = hash.tag();
        let table = &mut *self.table;
        let place = table.entries.insert(Entry::new(key, record));
        table.slots.insert_unique(tag.spread(), Slot { tag, place }, |slot| slot.tag.spread());
        self.note_expiry(place, expires_at);
    }

    /// Moves the hand over at most `places` places and removes the expired records it meets, at most `limit`, into
    /// `removed`. Says how many places it looked at: none at all if nothing here can be expired.
    pub(crate) fn sweep(
        &mut self,
        now: Timestamp,
        places: usize,
        limit: usize,
        hasher: &KeyHasher,
        removed: &mut Vec<Entry>,
    ) -> usize {
        let full = removed.len().saturating_add(limit);
        let mut looked_at = 0;
        while looked_at < places && removed.len() < full && self.may_hold_expired(now) {
            looked_at += 1;
            let table = &mut *self.table;
            let place = table.hand;
            table.hand += 1;
            match table.entries.get(place) {
                Some(entry) if is_removable(entry, now) => {
                    removed.extend(table.remove(place, hasher));
                    if table.entries.is_empty() {
                        // Gives the memory back that a shard needed at its fullest.
                        *table = Table::new();
                    }
                }
                Some(entry) => table.cycle_earliest = table.cycle_earliest.min(entry.expires_at()),
                None => {}
            }
            if table.hand >= table.entries.places() {
                let earliest = mem::replace(&mut table.cycle_earliest, NEVER);
                table.hand = 0;
                self.earliest_expiry.store(earliest.as_micros(), Ordering::Relaxed);
            }
        }
        looked_at
    }

    /// How many places a whole cycle of the hand has.
    pub(crate) fn places(&self) -> usize {
        self.table.entries.places() as usize
    }

    /// Whether a sweep might find something.
    pub(crate) fn may_hold_expired(&self, now: Timestamp) -> bool {
        self.earliest_expiry.load(Ordering::Relaxed) <= now.as_micros()
    }

    /// Keeps INV-1 for a record that is written under this lock.
    fn note_expiry(&mut self, place: u32, expires_at: Timestamp) {
        if place < self.table.hand {
            // The hand has passed it in this cycle already and will not see it again before the cycle ends.
            self.table.cycle_earliest = self.table.cycle_earliest.min(expires_at);
        }
        if expires_at.as_micros() < self.earliest_expiry.load(Ordering::Relaxed) {
            self.earliest_expiry.store(expires_at.as_micros(), Ordering::Relaxed);
        }
    }
}

impl Table {
    fn remove(&mut self, place: u32, hasher: &KeyHasher) -> Option<Entry> {
        let entry = self.entries.remove(place)?;
        let tag = hasher.hash(entry.key()).tag();
        if let Ok(slot) = self.slots.find_entry(tag.spread(), |slot| slot.place == place) {
            slot.remove();
        }
        Some(entry)
    }
}

/// INV-2.
fn is_removable(entry: &Entry, now: Timestamp) -> bool {
    now >= entry.expires_at() && entry.fence().get() < now.as_micros()
}

#[cfg(test)]
mod tests {
    use idem_core::FencingToken;
    use idem_core::store::{OwnerToken, State};

    use super::*;

    fn record(fence: u64, expires_at: u64) -> Record {
        Record {
            owner: OwnerToken::from_bytes([1; 16]),
            fence: FencingToken::new(fence).unwrap(),
            attempt: 1,
            fingerprint: Record::NO_FINGERPRINT,
            state: State::Released,
            expires_at: Timestamp::from_micros(expires_at),
        }
    }

    fn insert(shard: &Shard, hasher: &KeyHasher, name: u64, record: Record) -> Key {
        let key = Key::new("scope", name.to_be_bytes()).unwrap();
        shard.lock().insert(hasher.hash(&key), key.clone(), record);
        key
    }

    fn sweep(shard: &Shard, hasher: &KeyHasher, now: u64, places: usize) -> (usize, usize) {
        let mut removed = Vec::new();
        let now = Timestamp::from_micros(now);
        let looked_at = shard.lock().sweep(now, places, usize::MAX, hasher, &mut removed);
        (looked_at, removed.len())
    }

    #[test]
    fn the_hand_goes_on_where_it_stopped() {
        let (shard, hasher) = (Shard::new(), KeyHasher::new());
        for name in 0..10 {
            insert(&shard, &hasher, name, record(1, 100 + name % 2 * 900));
        }
        assert_eq!(sweep(&shard, &hasher, 99, 4), (0, 0), "nothing can be expired");
        assert_eq!(sweep(&shard, &hasher, 100, 4), (4, 2));
        assert_eq!(sweep(&shard, &hasher, 100, 4), (4, 2));
        assert_eq!(sweep(&shard, &hasher, 100, 4), (2, 1), "the cycle ends, and what is left expires later");
        assert_eq!(sweep(&shard, &hasher, 1000, 100), (10, 5));
        assert_eq!(shard.lock().places(), 0, "an empty shard keeps no memory");
    }

    #[test]
    fn a_record_written_behind_the_hand_is_found_in_the_next_cycle() {
        let (shard, hasher) = (Shard::new(), KeyHasher::new());
        let first = insert(&shard, &hasher, 0, record(1, 5000));
        insert(&shard, &hasher, 1, record(1, 100));
        insert(&shard, &hasher, 2, record(1, 6000));
        assert_eq!(sweep(&shard, &hasher, 100, 1), (1, 0), "the hand passes the first record");
        let mut locked = shard.lock();
        let place = locked.find(hasher.hash(&first), &first).unwrap();
        assert_eq!(locked.take(place), Some(record(1, 5000)));
        locked.put(place, record(1, 150));
        drop(locked);
        assert_eq!(sweep(&shard, &hasher, 200, 2), (2, 1), "the rest of the cycle");
        assert!(shard.may_hold_expired(Timestamp::from_micros(200)));
        assert_eq!(sweep(&shard, &hasher, 200, 3), (3, 1));
    }

    #[test]
    fn an_expired_record_stays_until_the_clock_has_passed_its_fence() {
        let (shard, hasher) = (Shard::new(), KeyHasher::new());
        let key = insert(&shard, &hasher, 0, record(500, 100));
        assert_eq!(sweep(&shard, &hasher, 500, 1), (1, 0));
        assert!(shard.lock().find(hasher.hash(&key), &key).is_some());
        assert_eq!(sweep(&shard, &hasher, 501, 1), (1, 1));
    }

    #[test]
    fn keys_that_share_a_tag_are_told_apart() {
        let (shard, hasher) = (Shard::new(), KeyHasher::new());
        let (one, other) = (Key::new("a", "bc").unwrap(), Key::new("ab", "c").unwrap());
        let hash = hasher.hash(&one);
        shard.lock().insert(hash, one.clone(), record(1, 100));
        assert_eq!(shard.lock().find(hash, &other), None);
        shard.lock().insert(hash, other.clone(), record(2, 100));
        let mut locked = shard.lock();
        let mut fence =
            |key| locked.find(hash, key).and_then(|place| locked.take(place)).unwrap().fence.get();
        assert_eq!((fence(&one), fence(&other)), (1, 2));
    }
}
