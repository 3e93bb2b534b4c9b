//! [`Reference`]: a small correct store; and [`Rules`], which make it incorrect on purpose.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use idem_core::store::transition::{self, Change};
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span, Timestamp,
};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, FencingToken, Key, Operation, ReleaseOutcome,
    RenewOutcome, ReservationStore, StoreError, StoreErrorKind,
};
use tokio::time::Instant;

/// A small correct store: a map behind one lock, changed by [`idem_core::store::transition`]. Use it to test tests, and
/// `idem-memory` for anything else.
///
/// Its clock is tokio's, plus what [`advance`](Self::advance) added. The clock of a [`stopped`](Self::stopped) store moves
/// only by that.
#[derive(Debug)]
pub struct Reference {
    records: Mutex<HashMap<Vec<u8>, Record>>,
    rules: Rules,
    started: (SystemTime, Instant),
    is_stopped: bool,
    advanced_micros: AtomicU64,
}

impl Reference {
    /// The longest answer that it stores, in bytes.
    pub const MAX_ANSWER_BYTES: usize = 1 << 20;

    /// An empty correct store.
    pub fn new() -> Self {
        Self::with_rules(Rules::CORRECT)
    }

    /// An empty store with these rules.
    pub fn with_rules(rules: Rules) -> Self {
        Self {
            records: Mutex::default(),
            rules,
            started: (SystemTime::now(), Instant::now()),
            is_stopped: false,
            advanced_micros: AtomicU64::new(0),
        }
    }

    /// Stops the clock: from now on it moves only by [`advance`](Self::advance).
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.is_stopped = true;
        self
    }

    /// Moves the store's clock forward.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.advanced_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// Changes the fence of a key's record, if there is one.
    pub fn set_fence(&self, key: &Key, fence: FencingToken) {
        if let Some(record) = self.records().get_mut(&(self.rules.address)(key)) {
            record.fence = fence;
        }
    }

    /// Runs a step of the state machine under the lock.
    fn step<T>(
        &self,
        key: &Key,
        step: impl FnOnce(Option<&Record>, Timestamp) -> TryStep<T>,
    ) -> Result<T, StoreError> {
        let address = (self.rules.address)(key);
        let mut records = self.records();
        let (outcome, write) = step(records.get(&address), self.now())?;
        if let Some(record) = write {
            records.insert(address, record);
        }
        Ok(outcome)
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Record>> {
        // Nothing panics between two writes to the map, so it is consistent even if the lock is poisoned.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        let (wall, monotonic) = self.started;
        let elapsed = if self.is_stopped { Duration::ZERO } else { monotonic.elapsed() };
        let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + elapsed;
        let micros = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
        Timestamp::from_micros(micros + self.advanced_micros.load(Ordering::SeqCst))
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ReservationStore for Reference {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        (self.rules.check_reserve)(&request)?;
        self.step(key, |found, now| (self.rules.reserve)(found, &request, now))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.step(key, |found, now| Ok((self.rules.renew)(found, owner, lease, now)))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        (self.rules.check_complete)(&completion)?;
        self.step(key, |found, now| Ok((self.rules.complete)(found, owner, completion, now)))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.step(key, |found, now| (self.rules.release)(found, owner, now))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.step(key, |found, now| Ok((self.rules.abandon)(found, owner, now)))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.step(key, |found, now| Ok((self.rules.get)(found, now)))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let mut records = self.records();
        let now = self.now();
        let garbage = records.iter().filter(|(_, record)| (self.rules.is_garbage)(record, now));
        let garbage: Vec<_> = garbage.map(|(address, _)| address.clone()).take(limit).collect();
        for address in &garbage {
            records.remove(address);
        }
        Ok(garbage.len())
    }
}

/// The outcome of an operation, and the record that it writes.
pub type Step<T> = (T, Change);

/// A [`Step`], unless the fencing tokens are used up.
pub type TryStep<T> = Result<Step<T>, StoreError>;

/// What a [`Reference`] does in each operation. Replace a function to plant a bug:
///
/// ```
/// use idem_conformance::{Reference, Rules};
/// use idem_core::store::transition::{self, Change};
///
/// // Every caller can complete.
/// let trusting = Rules {
///     complete: |found, _, completion, now| {
///         let owner = found.map_or(idem_core::store::OwnerToken::random(), |record| record.owner);
///         transition::complete(found, owner, completion, now)
///     },
///     ..Rules::CORRECT
/// };
/// let store = Reference::with_rules(trusting);
/// ```
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "each field is the operation of its name, or the check before it")]
pub struct Rules {
    pub check_reserve: fn(&ReserveRequest) -> Result<(), StoreError>,
    pub reserve: fn(Option<&Record>, &ReserveRequest, Timestamp) -> TryStep<ReserveOutcome>,
    pub renew: fn(Option<&Record>, OwnerToken, Span, Timestamp) -> Step<RenewOutcome>,
    pub check_complete: fn(&Completion) -> Result<(), StoreError>,
    pub complete: fn(Option<&Record>, OwnerToken, Completion, Timestamp) -> Step<CompleteOutcome>,
    pub release: fn(Option<&Record>, OwnerToken, Timestamp) -> TryStep<ReleaseOutcome>,
    pub abandon: fn(Option<&Record>, OwnerToken, Timestamp) -> Step<AbandonOutcome>,
    pub get: fn(Option<&Record>, Timestamp) -> Step<Option<RecordView>>,
    /// Whether a sweep removes a record.
    pub is_garbage: fn(&Record, Timestamp) -> bool,
    /// The bytes under which a key's record is stored.
    pub address: fn(&Key) -> Vec<u8>,
}

impl Rules {
    /// The rules of a correct store.
    pub const CORRECT: Self = Self {
        check_reserve: |_| Ok(()),
        reserve: transition::reserve,
        renew: transition::renew,
        check_complete: |completion| refuse_too_large(&completion.answer),
        complete: transition::complete,
        release: transition::release,
        abandon: transition::abandon,
        get: |found, now| (found.and_then(|record| record.view(now)), None),
        is_garbage: Record::is_expired,
        address: |key| key.as_bytes().to_vec(),
    };
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").finish_non_exhaustive()
    }
}

fn refuse_too_large(answer: &Answer) -> Result<(), StoreError> {
    if answer.len() <= Reference::MAX_ANSWER_BYTES {
        return Ok(());
    }
    Err(StoreError::new(StoreErrorKind::TooLarge, Effect::NotApplied, Operation::Complete))
}
