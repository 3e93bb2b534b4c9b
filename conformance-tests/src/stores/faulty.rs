//! [`Faulty`]: a store whose calls fail, get lost or come late, as a script or a seed decides.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::{Completion, OwnerToken, RecordView, ReserveOutcome, ReserveRequest, Span};
use idem_core::{
    AbandonOutcome, CompleteOutcome, Effect, Key, Operation, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use tokio::time::sleep;

use crate::rng::Rng;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The store refuses the call. It has no effect, and the caller knows that.
    Refused(StoreErrorKind),
    /// The call never arrives. It has no effect, and the caller does not know that.
    RequestLost,
    /// The call takes effect, then the connection breaks: `Unavailable`, and the caller does not know the effect.
    BrokenAfter,
    /// The call takes effect, and its reply is lost: `Timeout`, and the caller does not know the effect.
    ReplyLost,
    /// The call is sent this much later.
    Delayed(Duration),
    /// The caller gives up at once and does not know the effect. The call arrives this much later and takes effect then.
    Late(Duration),
    /// The call takes effect, and the caller never gets a reply.
    NeverAnswers,
    /// The call never arrives, and the caller never gets a reply.
    NeverArrives,
}

/// Passes calls on to another store, with the faults that a test sets or that a seed draws.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use idem_conformance::{Caller, Fault, Faulty, Reference};
/// use idem_core::{Effect, Key, Operation};
///
/// let faults = Arc::new(Faulty::new(Reference::new()));
/// faults.next(Operation::Reserve, Fault::ReplyLost);
///
/// let owner = Caller::new(Arc::clone(&faults), Key::new("scope", "name")?);
/// let lost = owner.try_reserve().await.unwrap_err();
/// assert_eq!(lost.effect, Effect::Unknown);
/// // The call had arrived. Resending it is safe, and returns the outcome.
/// assert_eq!(owner.reserved().await.attempt, 1);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ReservationStore>,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    once: HashMap<Operation, Vec<Fault>>,
    standing: HashMap<Operation, Fault>,
    drawn: Option<Drawn>,
}

/// Random faults. `Debug` shows the seed, so that a failed test that prints its store can be repeated.
#[derive(Debug)]
struct Drawn {
    #[allow(dead_code, reason = "printed by `Debug`")]
    seed: u64,
    rng: Rng,
    one_in: u64,
}

impl Faulty {
    /// A store without faults until [`next`](Self::next) or [`set`](Self::set).
    pub fn new(store: impl ReservationStore) -> Self {
        Self { inner: Arc::new(store), plan: Mutex::default() }
    }

    /// A store with a fault in about one of `one_in` calls. The seed decides which: the same calls in the same order get the
    /// same faults. Every call gets a reply: faults without one are not drawn.
    pub fn seeded(store: impl ReservationStore, seed: u64, one_in: u32) -> Self {
        let drawn = Drawn { seed, rng: Rng::new(seed), one_in: u64::from(one_in.max(1)) };
        let plan = Plan { drawn: Some(drawn), ..Plan::default() };
        Self { inner: Arc::new(store), plan: Mutex::new(plan) }
    }

    /// Adds a fault for the next call of `operation` that has none yet. Called twice, it affects the next two calls.
    pub fn next(&self, operation: Operation, fault: Fault) {
        self.plan().once.entry(operation).or_default().insert(0, fault);
    }

    /// Sets the fault of every call of `operation` from now on.
    pub fn set(&self, operation: Operation, fault: Option<Fault>) {
        let standing = &mut self.plan().standing;
        match fault {
            Some(fault) => standing.insert(operation, fault),
            None => standing.remove(&operation),
        };
    }

    /// Sets the fault of every call from now on.
    pub fn set_all(&self, fault: Option<Fault>) {
        use Operation::{Abandon, Complete, Get, Release, Renew, Reserve, Sweep};
        for operation in [Reserve, Renew, Complete, Release, Abandon, Get, Sweep] {
            self.set(operation, fault);
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // Nothing panics under this lock.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T, F, Fut>(&self, operation: Operation, call: F) -> Result<T, StoreError>
    where
        T: Send,
        F: FnOnce(Arc<dyn ReservationStore>) -> Fut + Send,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let fault = self.plan().draw(operation);
        let call = call(Arc::clone(&self.inner));
        let failed = |kind, effect| {
            Err(StoreError::new(kind, effect, operation).with_source(format!("injected fault: {fault:?}")))
        };
        match fault {
            None => call.await,
            Some(Fault::Refused(kind)) => failed(kind, Effect::NotApplied),
            Some(Fault::RequestLost) => failed(StoreErrorKind::Timeout, Effect::Unknown),
            Some(Fault::BrokenAfter) => {
                drop(call.await);
                failed(StoreErrorKind::Unavailable, Effect::Unknown)
            }
            Some(Fault::ReplyLost) => {
                drop(call.await);
                failed(StoreErrorKind::Timeout, Effect::Unknown)
            }
            Some(Fault::Delayed(by)) => {
                sleep(by).await;
                call.await
            }
            Some(Fault::Late(by)) => {
                tokio::spawn(async move {
                    sleep(by).await;
                    drop(call.await);
                });
                failed(StoreErrorKind::Timeout, Effect::Unknown)
            }
            Some(Fault::NeverAnswers) => {
                drop(call.await);
                std::future::pending().await
            }
            Some(Fault::NeverArrives) => std::future::pending().await,
        }
    }
}

impl Plan {
    fn draw(&mut self, operation: Operation) -> Option<Fault> {
        let scripted = self.once.get_mut(&operation).and_then(Vec::pop);
        scripted.or_else(|| self.standing.get(&operation).copied()).or_else(|| self.drawn.as_mut()?.draw())
    }
}

impl Drawn {
    fn draw(&mut self) -> Option<Fault> {
        if self.rng.below(self.one_in) != 0 {
            return None;
        }
        let soon = Duration::from_micros(self.rng.below(500));
        Some(match self.rng.below(6) {
            0 => Fault::Refused(StoreErrorKind::Unavailable),
            1 => Fault::RequestLost,
            2 => Fault::BrokenAfter,
            3 => Fault::ReplyLost,
            4 => Fault::Delayed(soon),
            _ => Fault::Late(soon),
        })
    }
}

#[async_trait]
impl ReservationStore for Faulty {
    async fn reserve(&self, key: &Key, request: ReserveRequest) -> Result<ReserveOutcome, StoreError> {
        let key = key.clone();
        self.call(Operation::Reserve, |store| async move { store.reserve(&key, request).await }).await
    }

    async fn renew(&self, key: &Key, owner: OwnerToken, lease: Span) -> Result<RenewOutcome, StoreError> {
        let key = key.clone();
        self.call(Operation::Renew, |store| async move { store.renew(&key, owner, lease).await }).await
    }

    async fn complete(
        &self,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        let key = key.clone();
        self.call(Operation::Complete, |store| async move { store.complete(&key, owner, completion).await })
            .await
    }

    async fn release(&self, key: &Key, owner: OwnerToken) -> Result<ReleaseOutcome, StoreError> {
        let key = key.clone();
        self.call(Operation::Release, |store| async move { store.release(&key, owner).await }).await
    }

    async fn abandon(&self, key: &Key, owner: OwnerToken) -> Result<AbandonOutcome, StoreError> {
        let key = key.clone();
        self.call(Operation::Abandon, |store| async move { store.abandon(&key, owner).await }).await
    }

    async fn get(&self, key: &Key) -> Result<Option<RecordView>, StoreError> {
        let key = key.clone();
        self.call(Operation::Get, |store| async move { store.get(&key).await }).await
    }

    async fn sweep(&self, limit: usize) -> Result<usize, StoreError> {
        self.call(Operation::Sweep, |store| async move { store.sweep(limit).await }).await
    }
}
