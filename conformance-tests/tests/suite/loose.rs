//! [`Loose`]: a store that reads a record and writes it without holding a lock in between.

use idem_core::store::Span;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use idem_core::store::transition;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Timestamp,
};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;
use tokio::time::Instant;

/// How long it waits for another caller before it writes. So it loses every race that has a rival, and not only some.
const PAUSE: Duration = Duration::from_millis(8);

#[derive(Debug)]
pub(crate) struct Loose {
    records: Mutex<HashMap<Key, Record>>,
    flaw: Flaw,
    started: (SystemTime, Instant),
}

/// What is done without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Between reading and writing in this operation.
    Within(Operation),
    /// Between freeing a released key and writing its tombstone.
    BeforeTheTombstone,
}

impl Loose {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self { records: Mutex::default(), flaw, started: (SystemTime::now(), Instant::now()) }
    }

    async fn step<T>(
        &self,
        operation: Operation,
        key: &Key,
        step: impl FnOnce(Option<&Record>, Timestamp) -> Result<(T, Option<Record>), StoreError>,
    ) -> Result<T, StoreError> {
        let found = if self.flaw == Flaw::Within(operation) {
            Some(self.waited_for_a_rival(key).await)
        } else {
            None
        };
        let mut records = self.records.lock().expect("nothing panics while it is held");
        let found = found.unwrap_or_else(|| records.get(key).cloned());
        let (outcome, write) = step(found.as_ref(), self.now())?;
        if let Some(record) = write {
            records.insert(key.clone(), record);
        }
        Ok(outcome)
    }

    /// The record as it was before a rival changed it.
    async fn waited_for_a_rival(&self, key: &Key) -> Option<Record> {
        let found = self.read(key);
        wait_until(|| self.read(key) != found).await;
        found
    }

    fn read(&self, key: &Key) -> Option<Record> {
        self.records.lock().expect("nothing panics while it is held").get(key).cloned()
    }

    fn now(&self) -> Timestamp {
        let since_epoch = self.started.0.duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
        let micros = (since_epoch + self.started.1.elapsed()).as_micros();
        Timestamp::from_micros(u64::try_from(micros).expect("it is before the year 500000"))
    }
}

#[async_trait]
impl ReservationStore for Loose {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.step(Operation::Reserve, key, |found, now| transition::reserve(found, &request, now)).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        self.step(Operation::Renew, key, |found, now| Ok(transition::renew(found, owner, lease, now))).await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        (idem_conformance::Rules::CORRECT.check_complete)(&completion)?;
        let step = |found: Option<&Record>, now| Ok(transition::complete(found, owner, completion, now));
        self.step(Operation::Complete, key, step).await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        let released =
            self.step(Operation::Release, key, |found, now| transition::release(found, owner, now)).await?;
        if self.flaw == Flaw::BeforeTheTombstone && released == ReleaseOutcome::Released {
            let tombstone = self.waited_for_a_rival(key).await;
            let mut records = self.records.lock().expect("nothing panics while it is held");
            records.extend(tombstone.map(|tombstone| (key.clone(), tombstone)));
        }
        Ok(released)
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.step(Operation::Abandon, key, |found, now| Ok(transition::abandon(found, owner, now))).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        self.step(Operation::Get, key, |found, now| Ok((found.and_then(|record| record.view(now)), None)))
            .await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        let garbage: Vec<_> = {
            let (records, now) = (self.records.lock().expect("nothing panics while it is held"), self.now());
            let garbage = records.iter().filter(|(_, record)| record.is_expired(now));
            garbage.map(|(key, record)| (key.clone(), record.clone())).take(limit).collect()
        };
        if self.flaw == Flaw::Within(Operation::Sweep) {
            let is_changed = |(key, record): &(Key, Record)| self.read(key).as_ref() != Some(record);
            wait_until(|| garbage.iter().any(is_changed)).await;
        }
        let mut records = self.records.lock().expect("nothing panics while it is held");
        for (key, _) in &garbage {
            records.remove(key);
        }
        Ok(garbage.len())
    }
}

/// Blocks the thread in real time, so that a paused clock does not move. Does nothing if there is only one thread.
async fn wait_until(is_reached: impl Fn() -> bool) {
    if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
        return;
    }
    let began = std::time::Instant::now();
    while !is_reached() && began.elapsed() < PAUSE {
        std::thread::sleep(Duration::from_micros(50));
        yield_now().await;
    }
}
