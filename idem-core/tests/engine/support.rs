//! A store for the engine's tests: the state machine over a map, on tokio's clock, with faults on demand.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::{
    Completion, OwnerToken, Record, RecordView, ReserveOutcome, ReserveRequest, Span, Timestamp, transition,
};
use idem_core::{
    AbandonOutcome, Admission, Attempt, CompleteOutcome, Effect, Engine, EngineBuilder, Fingerprint,
    InFlightPolicy, Key, Operation, Outcome, ReleaseOutcome, RenewOutcome, Reservation, ReservationStore,
    StoreError, StoreErrorKind,
};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

/// The fault of one call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It fails and has no effect.
    Refused(StoreErrorKind),
    /// It fails and has no effect, but does not know that.
    Unclear(StoreErrorKind),
    /// It takes effect, and its answer is lost.
    ReplyLost,
    /// It takes effect, and never answers.
    Silent,
    /// It takes this long, and then continues.
    Slow(Duration),
    /// It has no effect and never answers.
    Stuck,
    /// It has no effect and panics.
    Panic,
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
    in_scope: Mutex<Vec<(Operation, &'static str, Fault)>>,
    under_way: Mutex<HashMap<Operation, AtOnce>>,
    shut_down: Mutex<Option<Engine>>,
}

/// How many calls of an operation are in progress now, and the greatest number so far.
#[derive(Clone, Copy, Debug, Default)]
struct AtOnce {
    now: usize,
    most: usize,
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
                in_scope: Mutex::default(),
                under_way: Mutex::default(),
                shut_down: Mutex::default(),
            }),
        }
    }

    /// The next call of this operation fails. Called several times, so do the calls after it.
    pub(crate) fn fail_next(&self, operation: Operation, fault: Fault) {
        self.inner.once.lock().unwrap().push_back((operation, fault));
    }

    /// Every call of this operation fails from now on.
    pub(crate) fn fail_all(&self, operation: Operation, fault: Fault) {
        self.inner.always.lock().unwrap().insert(operation, fault);
    }

    /// Every call of this operation for a key of this scope fails from now on.
    pub(crate) fn fail_scope(&self, scope: &'static str, operation: Operation, fault: Fault) {
        self.inner.in_scope.lock().unwrap().push((operation, scope, fault));
    }

    /// A shutdown of this engine begins between the effect of the next call and its answer.
    pub(crate) fn shut_down_during_next(&self, engine: &Engine) {
        *self.inner.shut_down.lock().unwrap() = Some(engine.clone());
    }

    /// Ends the permanent faults.
    pub(crate) fn heal(&self) {
        self.inner.in_scope.lock().unwrap().clear();
        self.inner.always.lock().unwrap().clear();
    }

    /// How often this operation was called.
    pub(crate) fn calls(&self, operation: Operation) -> usize {
        self.inner.calls.lock().unwrap().iter().filter(|call| **call == operation).count()
    }

    /// How many calls there were in all.
    pub(crate) fn all_calls(&self) -> usize {
        self.inner.calls.lock().unwrap().len()
    }

    /// The greatest number of calls of this operation that were in progress at once.
    pub(crate) fn most_at_once(&self, operation: Operation) -> usize {
        self.at_once(operation).most
    }

    /// How many calls of this operation are in progress.
    pub(crate) fn under_way(&self, operation: Operation) -> usize {
        self.at_once(operation).now
    }

    fn at_once(&self, operation: Operation) -> AtOnce {
        self.inner.under_way.lock().unwrap().get(&operation).copied().unwrap_or_default()
    }

    /// Another owner takes the key over, as another process would after the end of the lease.
    pub(crate) fn steal(&self, key: &Key) -> OwnerToken {
        let thief = OwnerToken::random();
        let mut records = self.inner.records.lock().unwrap();
        records.get_mut(key).expect("there is a record to steal").owner = thief;
        thief
    }

    /// Another process owns the key, and never calls again.
    pub(crate) async fn reserved_elsewhere(&self, key: &Key) -> OwnerToken {
        let owner = OwnerToken::random();
        let outcome =
            self.reserve(key, ReserveRequest::new(owner, fingerprint(), span(LEASE))).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        owner
    }

    fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.inner.start.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(1_700_000_000_000_000 + elapsed)
    }

    /// The fault of the call that is being made.
    fn fault(&self, operation: Operation, key: &Key) -> Option<Fault> {
        let mut once = self.inner.once.lock().unwrap();
        if let Some(index) = once.iter().position(|(failing, _)| *failing == operation) {
            return once.remove(index).map(|(_, fault)| fault);
        }
        let in_scope = self.inner.in_scope.lock().unwrap();
        let of_key = in_scope
            .iter()
            .find(|(failing, scope, _)| *failing == operation && scope.as_bytes() == key.scope())
            .map(|(_, _, fault)| fault.clone());
        of_key.or_else(|| self.inner.always.lock().unwrap().get(&operation).cloned())
    }

    async fn run<O>(
        &self,
        operation: Operation,
        key: &Key,
        transition: impl FnOnce(Option<&Record>, Timestamp) -> Result<(O, Option<Record>), StoreError>,
    ) -> Result<O, StoreError> {
        self.inner.calls.lock().unwrap().push(operation);
        let _under_way = UnderWay::enter(&self.inner, operation);
        let fault = self.fault(operation, key);
        match &fault {
            Some(Fault::Refused(kind)) => return Err(StoreError::new(*kind, Effect::NotApplied, operation)),
            Some(Fault::Unclear(kind)) => return Err(StoreError::new(*kind, Effect::Unknown, operation)),
            Some(Fault::Panic) => panic!("the store panics on demand"),
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
        let shut_down = self.inner.shut_down.lock().unwrap().take();
        if let Some(engine) = shut_down {
            let mut draining = pin!(engine.shutdown(Duration::ZERO));
            poll_fn(|context| Poll::Ready(draining.as_mut().poll(context).is_ready())).await;
        }
        match fault {
            Some(Fault::ReplyLost) => {
                Err(StoreError::new(StoreErrorKind::Unavailable, Effect::Unknown, operation))
            }
            Some(Fault::Silent) => pending().await,
            _ => Ok(outcome),
        }
    }
}

/// One call in progress, until it is answered or dropped.
struct UnderWay<'a> {
    inner: &'a Inner,
    operation: Operation,
}

impl<'a> UnderWay<'a> {
    fn enter(inner: &'a Inner, operation: Operation) -> Self {
        let mut under_way = inner.under_way.lock().unwrap();
        let calls = under_way.entry(operation).or_default();
        calls.now += 1;
        calls.most = calls.most.max(calls.now);
        Self { inner, operation }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(calls) = self.inner.under_way.lock().unwrap().get_mut(&self.operation) {
            calls.now -= 1;
        }
    }
}

#[async_trait]
impl ReservationStore for TestStore {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        self.run(Operation::Reserve, key, |found, now| transition::reserve(found, &request, now)).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
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
        let view = |found: Option<&Record>, now| Ok((found.and_then(|record| record.view(now)), None));
        self.run(Operation::Get, key, view).await
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
    Fingerprint::from_parts(["payload"])
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

pub(crate) fn span(duration: Duration) -> Span {
    Span::new(duration).unwrap()
}

/// An engine whose callers wait for each other for at most `timeout`.
pub(crate) fn waiting_engine(store: &TestStore, timeout: Duration) -> Engine {
    engine_with(store, |settings| settings.in_flight(InFlightPolicy::Wait { timeout }))
}

/// Runs a handler that returns the number of its attempt.
pub(crate) async fn attempt_number(engine: &Engine) -> Outcome<u32> {
    let handler = async |attempt: Attempt| Ok::<_, String>(attempt.number);
    engine.execute(&key(), &fingerprint(), handler).await.unwrap()
}

/// Runs a handler that never returns, in a task.
pub(crate) fn hang(engine: &Engine) -> JoinHandle<()> {
    let engine = engine.clone();
    tokio::spawn(async move {
        let handler = async |_| {
            pending::<()>().await;
            Ok::<u32, String>(1)
        };
        let _ = engine.execute(&key(), &fingerprint(), handler).await;
    })
}

/// The reservation of a key that is free or may be taken over.
pub(crate) async fn granted(engine: &Engine, key: &Key) -> Reservation {
    match engine.reserve(key, &fingerprint()).await.unwrap() {
        Admission::Granted(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

/// Waits until the store was called, without letting time pass.
pub(crate) async fn until_called(store: &TestStore, operation: Operation, times: usize) {
    for _ in 0..10_000 {
        if store.calls(operation) >= times {
            yield_now().await;
            return;
        }
        yield_now().await;
    }
    panic!("{} calls of {operation}, and not {times}", store.calls(operation));
}
