//! [`MemoryStore`]: finds the key's shard, runs the transition under its lock, and keeps to the store's bounds.
//!
//! INV-1: no code of a user runs under a shard's lock. The last clone of an answer may run such code when it is
//! dropped (`Bytes::from_owner`), so whatever is removed, replaced or refused outlives the lock: it is declared before
//! the lock is taken, and locals are dropped in the reverse order.
//! INV-2: the clock is read under the lock, so that within a shard time never runs backwards, however long the lock
//! was waited for.
//! INV-3: no lock is held across an await, and no two at a time.
//! INV-4: a record is removed only by a sweep, and only once it has expired. A full store refuses.

use idem_core::store::Span;
use std::fmt;

use async_trait::async_trait;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, State, Timestamp, transition,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError,
};

use crate::Options;
use crate::clock::Clock;
use crate::entry::{self, Entry};
use crate::error::Refusal;
use crate::hash::{KeyHash, KeyHasher};
use crate::shard::{LockedShard, Shard};
use crate::sync::AtomicUsize;
use crate::usage::Usage;
use crate::walk::{PLACES_PER_STEP, Walk};

/// How many shards there are, a power of two: enough that threads rarely meet in one, and that a shard of a store with
/// millions of records is still small. More would each have their own cold end of memory to write to, which measured
/// slower. The model checker needs only keys that share a shard and keys that do not.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 256 };
/// How many places the insertion of a new key looks at for expired records. More than one, so that the hand gains on
/// the insertions: with four of them, garbage is at most a third of what lives.
const PLACES_PER_INSERTION: usize = 4;
/// How many places an insertion into a full store looks at before it gives up: a few milliseconds' worth.
const PLACES_PER_REFUSAL: usize = 256 * PLACES_PER_STEP;
/// How many places a sweep looks at before it lets other tasks of its thread run.
const PLACES_PER_TURN: usize = 16 * PLACES_PER_STEP;

/// A [`ReservationStore`] in this process's memory.
///
/// See the [crate's documentation](crate) for what it promises and what it does when it is full.
pub struct MemoryStore {
    pub(crate) shards: Box<[Shard]>,
    pub(crate) hasher: KeyHasher,
    pub(crate) clock: Clock,
    pub(crate) usage: Usage,
    /// The shard at which the next search for expired records starts.
    pub(crate) next_shard: AtomicUsize,
    options: Options,
}

impl MemoryStore {
    /// An empty store with the default [`Options`].
    pub fn new() -> Self {
        Self::with_options(Options::new())
    }

    /// An empty store with these bounds.
    pub fn with_options(options: Options) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::new()).collect(),
            hasher: KeyHasher::new(),
            clock: Clock::new(),
            usage: Usage::new(&options),
            next_shard: AtomicUsize::new(0),
            options,
        }
    }

    /// An empty store, for callers that choose their backend by URL. The URL is `memory:`; any other is
    /// `Misconfigured`. Two calls give two stores that share nothing.
    #[allow(clippy::unused_async, reason = "every backend has this call, and the others wait in it")]
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        if url == "memory:" { Ok(Self::new()) } else { Err(Refusal::NotAMemoryUrl.of(Operation::Connect)) }
    }

    /// How many records the store holds, with tombstones and those that expired and were not yet removed.
    pub fn records(&self) -> usize {
        self.usage.records()
    }

    /// How many bytes the store holds, as [`Options::max_bytes`] counts them.
    pub fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    fn locate(&self, key: &Key) -> (KeyHash, &Shard) {
        let hash = self.hasher.hash(key);
        (hash, &self.shards[hash.shard(self.shards.len())])
    }

    /// Runs a transition that writes no record for an absent key.
    fn update<T>(
        &self,
        key: &Key,
        step: impl FnOnce(Option<&Record>, Timestamp) -> (T, Option<Record>),
    ) -> T {
        let (hash, shard) = self.locate(key);
        let mut before;
        let mut shard = shard.lock();
        let now = self.clock.now();
        let found = shard.find(hash, key);
        before = found.and_then(|place| shard.take(place));
        let (outcome, write) = step(before.as_ref(), now);
        debug_assert!(found.is_some() || write.is_none(), "the transition created a record");
        if let Some(place) = found {
            self.settle(&mut shard, place, key, &mut before, write);
        }
        outcome
    }

    /// Runs a transition that may write a record for an absent key.
    fn upsert<T>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl Fn(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(outcome) = self.try_upsert(key, &step)? {
            return Ok(outcome);
        }
        self.make_room(key);
        self.try_upsert(key, &step)?.ok_or_else(|| {
            Refusal::full(self.usage.records(), self.usage.bytes(), &self.options).of(operation)
        })
    }

    /// `None` if the key is new and there is no room for it.
    fn try_upsert<T>(
        &self,
        key: &Key,
        step: impl Fn(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let (hash, shard) = self.locate(key);
        let mut before;
        let mut removed = Vec::new();
        let mut shard = shard.lock();
        let now = self.clock.now();
        let found = shard.find(hash, key);
        before = found.and_then(|place| shard.take(place));
        let (result, write) = match step(before.as_ref(), now) {
            Ok((outcome, write)) => (Ok(Some(outcome)), write),
            Err(error) => (Err(error), None),
        };
        match (found, write) {
            (None, None) => {}
            (Some(place), write) => self.settle(&mut shard, place, key, &mut before, write),
            (None, Some(record)) => {
                if shard.may_hold_expired(now) {
                    shard.sweep(now, PLACES_PER_INSERTION, usize::MAX, &self.hasher, &mut removed);
                    self.forget(&removed);
                }
                if !self.usage.try_add_record(entry::bytes(key, &record)) {
                    return Ok(None);
                }
                shard.insert(hash, key.clone(), record);
            }
        }
        result
    }

    /// Puts what a transition wrote in the place of the record that was taken for it, or gives that one back. A record
    /// that was replaced stays in `before`, to outlive the lock (INV-1).
    fn settle(
        &self,
        shard: &mut LockedShard<'_>,
        place: u32,
        key: &Key,
        before: &mut Option<Record>,
        write: Option<Record>,
    ) {
        match (write, &before) {
            (Some(record), Some(before)) => {
                self.usage.resize_record(entry::bytes(key, before), entry::bytes(key, &record));
                shard.put(place, record);
            }
            _ => shard.give_back(place, before.take()),
        }
    }

    /// Removes expired records until one more fits. What one call looks at is limited, so that no caller pays for a
    /// walk through millions of records; the next call goes on from there.
    fn make_room(&self, key: &Key) {
        let bytes = entry::bytes_in_flight(key);
        let mut looked_at = 0;
        let mut walk = Walk::new(self);
        while looked_at < PLACES_PER_REFUSAL && !self.usage.has_room(bytes) {
            // Few at a time, since freeing the memory of long answers takes its time too.
            match walk.step(PLACES_PER_INSERTION) {
                Some(step) => looked_at += step.looked_at,
                None => return,
            }
        }
    }

    /// Takes removed records off the counters.
    pub(crate) fn forget(&self, removed: &[Entry]) {
        if !removed.is_empty() {
            self.usage.remove_records(removed.len(), removed.iter().map(Entry::bytes).sum());
        }
    }
}

#[async_trait]
impl ReservationStore for MemoryStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.upsert(Operation::Reserve, key, |found, now| transition::reserve(found, &request, now))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        Ok(self.update(key, |found, now| transition::renew(found, owner, lease, now)))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        let (bytes, max_answer_bytes) = (completion.answer.len(), self.options.max_answer_bytes);
        if bytes > max_answer_bytes {
            return Err(Refusal::AnswerTooLarge { bytes, max_answer_bytes }.of(Operation::Complete));
        }
        // The transition drops an answer that it does not accept. A clone that outlives the lock keeps INV-1; it is
        // made only then, since the first clone of a `Bytes` may allocate.
        let mut _refused = None;
        Ok(self.update(key, |found, now| {
            if !accepts_answer(found, owner, now) {
                _refused = Some(completion.answer.clone());
            }
            transition::complete(found, owner, completion, now)
        }))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.upsert(Operation::Release, key, |found, now| transition::release(found, owner, now))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        Ok(self.update(key, |found, now| transition::abandon(found, owner, now)))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        let (hash, shard) = self.locate(key);
        let mut shard = shard.lock();
        let now = self.clock.now();
        let Some(place) = shard.find(hash, key) else { return Ok(None) };
        let record = shard.take(place);
        let view = record.as_ref().and_then(|record| record.view(now));
        shard.give_back(place, record);
        Ok(view)
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let (mut removed, mut looked_at) = (0, 0);
        let mut walk = Walk::new(self);
        while removed < limit {
            let Some(step) = walk.step(limit - removed) else { break };
            removed += step.removed;
            looked_at += step.looked_at;
            if looked_at >= PLACES_PER_TURN {
                looked_at = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(removed)
    }
}

/// Whether `transition::complete` will keep the answer it is given.
fn accepts_answer(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> bool {
    found.is_some_and(|record| {
        record.owner == owner && !record.is_expired(now) && matches!(record.state, State::InFlight { .. })
    })
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows how much the store holds, never what.
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
    use idem_core::StoreErrorKind;

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
}
