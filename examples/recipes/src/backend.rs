//! A store of your own: lock a record, run the state machine, write what it returns.
//!
//! `tests/backend.rs` runs the conformance suite over it. A storage that cannot run the state machine under a lock
//! implements the same rules in its own language, as idem-redis does in Lua. The suite runs the same cases on both.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use idem_core::store::transition::{self, Change};
use idem_core::store::{
    AbandonOutcome, CompleteOutcome, Completion, OwnerToken, Record, RecordView, ReleaseOutcome,
    RenewOutcome, ReserveOutcome, ReserveRequest, Span, Timestamp,
};
use idem_core::{Key, ReservationStore, StoreError};
use tokio::time::Instant;

/// A map behind one lock, on tokio's clock.
#[derive(Debug)]
pub struct MapStore {
    records: Mutex<HashMap<Key, Record>>,
    started: Instant,
}

impl MapStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { records: Mutex::default(), started: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        // Any clock that never goes back will do, as long as the store has only this one.
        Timestamp::from_micros(1 + u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Runs one operation of the state machine under the lock.
    fn run<T>(
        &self,
        key: &Key,
        operation: impl FnOnce(Option<&Record>, Timestamp) -> Result<(T, Change), StoreError>,
    ) -> Result<T, StoreError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (outcome, change) = operation(records.get(key), self.now())?;
        if let Some(record) = change {
            records.insert(key.clone(), record);
        }
        Ok(outcome)
    }
}

impl Default for MapStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ReservationStore for MapStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.run(key, |found, now| transition::reserve(found, &request, now))
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.run(key, |found, now| Ok(transition::renew(found, owner, lease, now)))
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        self.run(key, |found, now| Ok(transition::complete(found, owner, completion, now)))
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.run(key, |found, now| transition::release(found, owner, now))
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.run(key, |found, now| Ok(transition::abandon(found, owner, now)))
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.run(key, |found, now| Ok((found.and_then(|record| record.view(now)), None)))
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.now();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = records.iter().filter(|(_, record)| record.is_expired(now)).take(limit);
        let expired: Vec<_> = expired.map(|(key, _)| key.clone()).collect();
        for key in &expired {
            records.remove(key);
        }
        Ok(expired.len())
    }
}
