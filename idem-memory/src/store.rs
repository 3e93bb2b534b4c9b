//! [`MemoryStore`]: runs each transition under the lock of the key's entry, and keeps the store within its bounds.
//!
//! INV-1: no code of a user runs under a lock. Dropping the last clone of an answer may run such code
//! (`Bytes::from_owner`), so an answer that is removed, replaced or refused is dropped after the lock is released: its
//! variable is declared before the lock is taken, and locals are dropped in reverse order.
//! INV-2: the clock is read under the entry's lock, so time never runs backwards for a key.
//! INV-3: the expiry queue may be locked while an entry is locked, never the other way round, and no lock is held
//! across an await.
//! INV-4: only a sweep removes records, and only from [`removable_at`] on. A full store refuses new keys.
//! INV-5: every record is in the expiry queue at its [`removable_at`], except between the moment when a sweep takes it
//! from the queue and the moment when the same sweep removes it. If the record changes in between, the change puts it
//! back into the queue.

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::{fmt, mem, ptr};

use async_trait::async_trait;
use dashmap::{DashMap, Entry};
use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span, State, Timestamp,
    transition,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};

use crate::MemoryOptions;
use crate::clock::Clock;
use crate::error::Refusal;
use crate::expiry::ExpiryQueue;
use crate::sync::{AtomicUsize, MapLock, Ordering, yield_now};
use crate::usage::{Usage, bytes_of, bytes_without_answer};

/// How many locks the map has. A lock is held while its part of the map grows, so the parts have to be small.
const SHARDS: usize = 1024;
/// How many expired records a new key removes. More than one, so that expired records do not pile up.
const REMOVED_PER_INSERTION: usize = 4;
/// How many expired records a reservation removes to make room in a full store.
const REMOVED_FOR_ROOM: usize = 4096;
/// How many expired records a sweep removes before it lets other tasks of its thread run.
const REMOVED_PER_TURN: usize = 256;

/// A [`ReservationStore`] in this process's memory.
///
/// The [crate's documentation](crate) describes its guarantees and what happens when it is full.
pub struct MemoryStore {
    // Boxed, because a table of small slots grows faster and wastes less memory on free slots. A record also keeps its
    // address that way (see `part_of`).
    records: DashMap<Key, Box<Record>, SeedableRandomState>,
    map_lock: MapLock,
    expiries: ExpiryQueue,
    /// How many callers are between taking a key from the queue and removing its record.
    removals: AtomicUsize,
    usage: Usage,
    clock: Clock,
    options: MemoryOptions,
}

impl MemoryStore {
    /// Makes an empty store with the default [`MemoryOptions`].
    pub fn new() -> Self {
        Self::with_options(MemoryOptions::new())
    }

    /// Makes an empty store with these bounds.
    pub fn with_options(options: MemoryOptions) -> Self {
        Self {
            records: DashMap::with_hasher_and_shard_amount(hasher(), SHARDS),
            map_lock: MapLock::new(),
            expiries: ExpiryQueue::new(),
            removals: AtomicUsize::new(0),
            usage: Usage::new(&options),
            clock: Clock::new(),
            options,
        }
    }

    /// Makes an empty store, for callers that choose their backend by URL.
    ///
    /// The URL is `memory:`; any other is `Misconfigured`. Two calls make two stores that share nothing.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, MemoryOptions::new()).await
    }

    /// Makes an empty store with these bounds, for callers that choose their backend by URL.
    #[allow(clippy::unused_async, reason = "every backend has this call, and the others wait in it")]
    pub async fn connect_with(url: &str, options: MemoryOptions) -> Result<Self, StoreError> {
        if url == "memory:" {
            Ok(Self::with_options(options))
        } else {
            Err(Refusal::NotAMemoryUrl.into_store_error(Operation::Connect))
        }
    }

    /// Returns how many records the store holds, including tombstones and expired records that are not yet removed.
    pub fn records(&self) -> usize {
        self.usage.records()
    }

    /// Returns how many bytes the store holds, counted as for [`MemoryOptions::max_bytes`].
    pub fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    /// Runs a transition under the lock of the key's entry and writes the record that it returns.
    fn apply<T>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl FnOnce(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>,
    ) -> Result<T, StoreError> {
        let _replaced;
        let (outcome, now) = {
            let _model = self.map_lock.lock();
            let entry = self.records.entry(key.clone());
            let now = self.clock.now();
            match entry {
                Entry::Occupied(mut entry) => {
                    let (outcome, write) = step(Some(entry.get()), now)?;
                    if let Some(record) = write {
                        let before = &mut **entry.get_mut();
                        self.usage.resize_record(bytes_of(key, before), bytes_of(key, &record));
                        let (from, to) = (removable_at(before), removable_at(&record));
                        self.expiries.move_to(part_of(before), key, from, to);
                        _replaced = mem::replace(before, record);
                    }
                    return Ok(outcome);
                }
                Entry::Vacant(entry) => {
                    let (outcome, write) = step(None, now)?;
                    let Some(record) = write else { return Ok(outcome) };
                    if !self.usage.try_add_record(bytes_of(key, &record)) {
                        let (records, bytes) = (self.records(), self.bytes());
                        return Err(Refusal::full(records, bytes, &self.options).into_store_error(operation));
                    }
                    let record = Box::new(record);
                    self.expiries.insert(part_of(&record), key, removable_at(&record));
                    entry.insert(record);
                    (outcome, now)
                }
            }
        };
        let part = self.expiries.next_part();
        self.remove_due(|| self.expiries.pop_due_in_part(part, now), REMOVED_PER_INSERTION);
        Ok(outcome)
    }

    /// Does the same for a transition that may write a record for an absent key, and makes room for that record if the
    /// store is full.
    fn apply_or_make_room<T>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl Fn(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            match self.apply(operation, key, &step) {
                // Another caller may take the room that this one makes, so it tries again while there is some to make.
                Err(error) if error.kind == StoreErrorKind::Full => {
                    let (bytes, now) = (bytes_without_answer(key), self.clock.now());
                    let mut nothing_is_due = false;
                    let due = || {
                        if self.usage.has_room(bytes) {
                            return None;
                        }
                        let due = self.expiries.pop_due(now);
                        nothing_is_due = due.is_none();
                        due
                    };
                    self.remove_due(due, REMOVED_FOR_ROOM);
                    // In this order: a removal that ended before the first look is seen by the second.
                    let others_remove = self.removals.load(Ordering::Acquire) > 0;
                    if nothing_is_due && !others_remove && !self.usage.has_room(bytes) {
                        return Err(error);
                    }
                    if others_remove {
                        yield_now();
                    }
                }
                result => return result,
            }
        }
    }

    /// Removes at most `limit` of the records whose keys `due` takes from the expiry queue, and returns how many.
    fn remove_due(&self, mut due: impl FnMut() -> Option<Key>, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit {
            let _removal = Removal::begin(&self.removals);
            let Some(key) = due() else { break };
            removed += usize::from(self.remove_if_expired(&key));
        }
        removed
    }

    fn remove_if_expired(&self, key: &Key) -> bool {
        let removed;
        {
            let _model = self.map_lock.lock();
            removed = self.records.remove_if(key, |key, record| {
                let is_expired = removable_at(record) <= self.clock.now();
                if is_expired {
                    self.usage.remove_record(bytes_of(key, record));
                }
                is_expired
            });
        }
        removed.is_some()
    }

    fn find(&self, key: &Key) -> Option<RecordView> {
        let _model = self.map_lock.lock();
        let record = self.records.get(key)?;
        record.view(self.clock.now())
    }
}

#[async_trait]
impl ReservationStore for MemoryStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.apply_or_make_room(Operation::Reserve, key, |found, now| {
            transition::reserve(found, &request, now)
        })
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.apply(Operation::Renew, key, |found, now| Ok(transition::renew(found, owner, lease, now)))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        completion.check(self.options.max_answer_bytes)?;
        // The transition drops an answer that it refuses. A clone that lives longer than the lock keeps INV-1. Only a
        // refused answer is cloned, because the first clone of a `Bytes` may allocate.
        let mut _refused = None;
        self.apply(Operation::Complete, key, |found, now| {
            if !accepts_answer(found, owner, now) {
                _refused = Some(completion.answer.clone());
            }
            Ok(transition::complete(found, owner, completion, now))
        })
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.apply_or_make_room(Operation::Release, key, |found, now| transition::release(found, owner, now))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.apply(Operation::Abandon, key, |found, now| Ok(transition::abandon(found, owner, now)))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        Ok(self.find(key))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let (now, mut removed) = (self.clock.now(), 0);
        loop {
            let turn = REMOVED_PER_TURN.min(limit - removed);
            let in_this_turn = self.remove_due(|| self.expiries.pop_due(now), turn);
            removed += in_this_turn;
            if in_this_turn < turn || removed == limit {
                return Ok(removed);
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Counts one removal for as long as it takes.
struct Removal<'a>(&'a AtomicUsize);

impl<'a> Removal<'a> {
    fn begin(removals: &'a AtomicUsize) -> Self {
        removals.fetch_add(1, Ordering::Relaxed);
        Self(removals)
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// The instant from which a record may be removed: it has expired, and the clock has passed its fence.
///
/// A fence can be ahead of the clock, after several takeovers within one microsecond. The next life of the key takes
/// its fence from the clock alone, so the record stays until the clock's fence is the higher one.
fn removable_at(record: &Record) -> Timestamp {
    record.expires_at.max(Timestamp::from_micros(record.fence.get() + 1))
}

/// The part of the expiry queue for a record: its address, which stays the same while the record is in the map, and
/// which no client can choose.
fn part_of(record: &Record) -> usize {
    ptr::from_ref(record).addr() / size_of::<Record>()
}

/// Whether `transition::complete` keeps the answer.
fn accepts_answer(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> bool {
    found.is_some_and(|record| {
        record.owner == owner && !record.is_expired(now) && matches!(record.state, State::InFlight { .. })
    })
}

/// A fast hasher that is seeded from the operating system's randomness, because clients choose the keys. Under the
/// model checker the seed is constant, so that a schedule can be replayed.
fn hasher() -> SeedableRandomState {
    static PROCESS_SEED: OnceLock<SharedSeed> = OnceLock::new();
    let random = || if cfg!(shuttle) { 1 } else { std::hash::RandomState::new().hash_one(0_u8) };
    SeedableRandomState::with_seed(random(), PROCESS_SEED.get_or_init(|| SharedSeed::from_u64(random())))
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows how much the store holds, but no keys and no answers.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("records", &self.records())
            .field("bytes", &self.bytes())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use idem_core::{FencingToken, Fingerprint, StoredValue};

    use super::*;

    #[tokio::test]
    async fn only_the_memory_url_connects() {
        assert_eq!(MemoryStore::connect("memory:").await.unwrap().records(), 0);
        for url in ["", "memory", "memory:x", "postgres://user:secret@host/db"] {
            let error = MemoryStore::connect(url).await.unwrap_err();
            assert_eq!((error.kind, error.operation), (StoreErrorKind::Misconfigured, Operation::Connect));
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn an_expired_record_stays_until_the_clock_has_passed_its_fence() {
        let record = |fence, expires_at| Record {
            owner: OwnerToken::from_bytes([1; 16]),
            fence: FencingToken::new(fence).unwrap(),
            attempt: 1,
            fingerprint: Record::NO_FINGERPRINT,
            state: State::Released,
            expires_at: Timestamp::from_micros(expires_at),
        };
        assert_eq!(removable_at(&record(500, 100)), Timestamp::from_micros(501));
        assert_eq!(removable_at(&record(500, 501)), Timestamp::from_micros(501));
        assert_eq!(removable_at(&record(500, 900)), Timestamp::from_micros(900));
    }

    #[test]
    fn every_store_hashes_differently() {
        let key = Key::new("scope", "name").unwrap();
        let (one, other) = (MemoryStore::new(), MemoryStore::new());
        let hash = |store: &MemoryStore| store.records.hasher().hash_one(&key);
        assert_eq!(hash(&one), hash(&one));
        assert_ne!(hash(&one), hash(&other));
    }

    #[tokio::test(start_paused = true)]
    async fn every_record_is_in_the_queue_once_at_the_instant_of_its_removal() {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
        let (minute_span, day_span) = (Span::new(minute).unwrap(), Span::new(day).unwrap());
        let store = MemoryStore::new();
        let (key, owner) = (Key::new("scope", "name").unwrap(), OwnerToken::random());
        let queued = || {
            let record = store.records.get(&key).unwrap();
            store.expiries.entries() == vec![(removable_at(&record), key.clone())]
        };
        let request = |owner| {
            ReserveRequest::new(owner, Fingerprint::from_parts(["f"]), minute_span).record_ttl(minute_span)
        };
        let reserve = |owner| store.reserve(&key, request(owner));

        assert!(reserve(owner).await.is_ok() && queued());
        assert!(store.renew(&key, owner, day_span).await.is_ok() && queued(), "later");
        let completion = Completion::new(StoredValue::bytes("x"), minute_span);
        assert!(store.complete(&key, owner, completion).await.is_ok() && queued(), "earlier");
        tokio::time::advance(minute).await;
        assert!(reserve(OwnerToken::random()).await.is_ok() && queued(), "the next life");
        tokio::time::advance(day).await;
        assert_eq!(store.sweep(1).await.unwrap(), 1);
        assert_eq!(store.expiries.entries(), vec![]);
    }
}
