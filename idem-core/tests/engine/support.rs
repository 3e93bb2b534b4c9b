//! A store for the engine's tests: the state machine over a map, on tokio's clock, that fails when it is told to.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use idem_core::{
    AbandonOutcome, CompleteOutcome, Completion, Effect, Engine, EngineBuilder, Fingerprint, Key, Operation,
    OwnerToken, Record, RecordView, ReleaseOutcome, RenewOutcome, ReservationStore, Reserve, ReserveOutcome,
    StoreError, StoreErrorKind, Timestamp, transition,
};
use tokio::time::{Instant, sleep};

/// What goes wrong with one call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Refused(StoreErrorKind),
    /// It takes effect, and its answer is lost.
    ReplyLost,
    /// It takes effect, and never answers.
    Silent,
    /// It takes this long, and then goes on.
    Slow(Duration),
    /// It has no effect and never answers.
    Stuck,
}

/// Clones are handles to the same data.
#[derive(Clone, Debug)]
pub(crate) struct TestStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    start: Instant,
    records: Mutex<HashMap<Key, Record>>,
    calls: Mutex<Vec<Operation>>,
    once: Mutex<VecDeque<(Operation, Fault)>>,
    always: Mutex<HashMap<Operation, Fault>>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                start: Instant::now(),
                records: Mutex::default(),
                calls: Mutex::default(),
                once: Mutex::default(),
                always: Mutex::default(),
            }),
        }
    }

    /// The next call of this operation goes wrong; told several times, so do the following ones.
    pub(crate) fn fail_next(&self, operation: Operation, fault: Fault) {
        self.inner.once.lock().unwrap().push_back((operation, fault));
    }

    /// Every call of this operation goes wrong from now on.
    pub(crate) fn fail_all(&self, operation: Operation, fault: Fault) {
        self.inner.always.lock().unwrap().insert(operation, fault);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.inner.always.lock().unwrap().clear();
    }

    /// How often this operation was called.
    pub(crate) fn calls(&self, operation: Operation) -> usize {
        self.inner.calls.lock().unwrap().iter().filter(|call| **call == operation).count()
    }

    /// Another owner takes the key over, as another process would after a lease that ended there.
    pub(crate) fn steal(&self, key: &Key) -> OwnerToken {
        let thief = OwnerToken::random();
        let mut records = self.inner.records.lock().unwrap();
        records.get_mut(key).expect("there is a record to steal").owner = thief;
        thief
    }

    /// Another process owns the key, and is never heard of again.
    pub(crate) async fn reserved_elsewhere(&self, key: &Key) -> OwnerToken {
        let owner = OwnerToken::random();
        let outcome = self.reserve(key, Reserve::new(owner, fingerprint(), LEASE)).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        owner
    }

    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.inner.start.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(1_700_000_000_000_000 + elapsed)
    }

    async fn run<O>(
        &self,
        operation: Operation,
        key: &Key,
        transition: impl FnOnce(Option<&Record>, Timestamp) -> Result<(O, Option<Record>), StoreError>,
    ) -> Result<O, StoreError> {
        self.inner.calls.lock().unwrap().push(operation);
        let fault = {
            let mut once = self.inner.once.lock().unwrap();
            match once.iter().position(|(failing, _)| *failing == operation) {
                Some(index) => once.remove(index).map(|(_, fault)| fault),
                None => self.inner.always.lock().unwrap().get(&operation).cloned(),
            }
        };
        match &fault {
            Some(Fault::Refused(kind)) => return Err(StoreError::new(*kind, Effect::NotApplied, operation)),
            Some(Fault::Slow(delay)) => sleep(*delay).await,
            Some(Fault::Stuck) => pending().await,
            Some(Fault::ReplyLost | Fault::Silent) | None => {}
        }
        let outcome = {
            let mut records = self.inner.records.lock().unwrap();
            let (outcome, write) = transition(records.get(key), self.now())?;
            if let Some(record) = write {
                records.insert(key.clone(), record);
            }
            outcome
        };
        match fault {
            Some(Fault::ReplyLost) => {
                Err(StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, operation))
            }
            Some(Fault::Silent) => pending().await,
            _ => Ok(outcome),
        }
    }
}

#[async_trait]
impl ReservationStore for TestStore {
    async fn reserve(&self, key: &Key, request: Reserve) -> Result<ReserveOutcome, StoreError> {
        request.check()?;
        self.run(Operation::Reserve, key, |found, now| transition::reserve(found, &request, now)).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Duration) -> Result<RenewOutcome, StoreError> {
        self.run(Operation::Renew, key, |found, now| Ok(transition::renew(found, owner, lease, now))).await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        let complete = |found: Option<&Record>, now| Ok(transition::complete(found, owner, completion, now));
        self.run(Operation::Complete, key, complete).await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        self.run(Operation::Release, key, |found, now| transition::release(found, owner, now)).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        self.run(Operation::Abandon, key, |found, now| Ok(transition::abandon(found, owner, now))).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        let look = |found: Option<&Record>, now| Ok((found.and_then(|record| record.view(now)), None));
        self.run(Operation::Get, key, look).await
    }

    async fn sweep(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn key() -> Key {
    Key::new("scope", "name").unwrap()
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::of(["payload"])
}

/// An engine with a lease of a minute over the store.
pub(crate) fn engine(store: &TestStore) -> Engine {
    engine_with(store, |builder| builder)
}

pub(crate) fn engine_with(
    store: &TestStore,
    settings: impl FnOnce(EngineBuilder) -> EngineBuilder,
) -> Engine {
    settings(Engine::builder(store.clone()).lease(LEASE)).build().unwrap()
}
