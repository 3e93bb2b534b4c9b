//! [`Context`]: what a case works with: a fresh store, callers, and a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveRequest};
use idem_core::{Key, ReservationStore};
use tokio::sync::Barrier;

use super::setting::{Setting, is_movable};
use crate::values::{HOUR, MILLI, MINUTE, fingerprint, span, usual_key};
use crate::{Caller, Clock, Harness, Instance};

/// What a case works with. A clone is the same context.
#[derive(Clone)]
pub(crate) struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    /// The name of the harness, by which a child process finds it.
    name: &'static str,
    harness: Arc<dyn Harness>,
    instance: Box<dyn Instance>,
    store: Arc<dyn ReservationStore>,
    setting: Setting,
    key: Key,
    tokens: AtomicU64,
}

impl Context {
    pub(crate) async fn new(name: &'static str, harness: Arc<dyn Harness>, setting: Setting) -> Self {
        let instance = harness.fresh().await;
        Self::build(name, harness, instance, setting)
    }

    /// A context over another instance of the same backend.
    pub(crate) fn over(&self, instance: Box<dyn Instance>) -> Self {
        let Inner { name, harness, setting, .. } = &*self.inner;
        Self::build(name, Arc::clone(harness), instance, *setting)
    }

    fn build(
        name: &'static str,
        harness: Arc<dyn Harness>,
        instance: Box<dyn Instance>,
        setting: Setting,
    ) -> Self {
        let store = instance.store();
        let key = usual_key();
        let tokens = AtomicU64::new(1);
        Self { inner: Arc::new(Inner { name, harness, instance, store, setting, key, tokens }) }
    }

    pub(crate) fn harness_name(&self) -> &'static str {
        self.inner.name
    }

    pub(crate) fn harness(&self) -> &dyn Harness {
        &*self.inner.harness
    }

    pub(crate) fn instance(&self) -> &dyn Instance {
        &*self.inner.instance
    }

    pub(crate) fn store(&self) -> Arc<dyn ReservationStore> {
        Arc::clone(&self.inner.store)
    }

    /// A new handle to the same data.
    pub(crate) async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.inner.instance.second_handle().await
    }

    /// A caller of the case's usual key, with a token of its own. It asks for a lease of an hour, longer than any case
    /// runs.
    pub(crate) fn caller(&self) -> Caller {
        self.caller_of(&self.key())
    }

    /// A caller of another key.
    pub(crate) fn caller_of(&self, key: &Key) -> Caller {
        let request = ReserveRequest::new(self.token(), fingerprint("payload"), span(HOUR));
        Caller::with_request(self.store(), key.clone(), request)
    }

    /// The case's usual key.
    pub(crate) fn key(&self) -> Key {
        self.inner.key.clone()
    }

    /// A token that no other caller of this case has.
    pub(crate) fn token(&self) -> OwnerToken {
        let number = self.inner.tokens.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0xa5; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        OwnerToken::from_bytes(bytes)
    }

    /// A span that the case lets pass: a minute if the clock can be moved, else the harness's short span.
    pub(crate) fn span(&self) -> Duration {
        if self.is_movable() { MINUTE } else { self.inner.harness.short_span() }
    }

    /// Lets at least `by` pass on the store's clock.
    pub(crate) async fn pass(&self, by: Duration) {
        let Inner { harness, instance, setting, .. } = &*self.inner;
        match (harness.clock(), setting) {
            (Clock::Tokio, Setting::Store) => tokio::time::advance(by).await,
            // Sleeping on the paused clock moves it too, and fires every timer before the end.
            (Clock::Tokio, Setting::Engine | Setting::Threads) => tokio::time::sleep(by).await,
            (Clock::Manual | Clock::Adjustable, Setting::Engine) => {
                instance.advance(by).await;
                tokio::time::sleep(by).await;
            }
            (Clock::Manual | Clock::Adjustable | Clock::Real, _) => instance.advance(by).await,
        }
    }

    /// Lets time pass until `is_true`, and fails the case if that does not happen.
    pub(crate) async fn until(&self, what: &str, mut is_true: impl AsyncFnMut() -> bool) {
        for _ in 0..10_000 {
            if is_true().await {
                return;
            }
            self.pass(MILLI).await;
        }
        panic!("this never happened: {what}");
    }

    /// Runs `callers` at once, each in a task of its own, half of them through a second handle, and returns their results
    /// in order. A barrier starts them together.
    pub(crate) async fn race<T, F, Fut>(&self, callers: usize, run: F) -> Vec<T>
    where
        T: Send + 'static,
        F: Fn(usize, Arc<dyn ReservationStore>) -> Fut,
        Fut: Future<Output = T> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(callers));
        let handles = [self.store(), self.second_handle().await];
        let tasks: Vec<_> = (0..callers)
            .map(|index| {
                let (start, caller) = (Arc::clone(&start), run(index, Arc::clone(&handles[index % 2])));
                tokio::spawn(async move {
                    start.wait().await;
                    caller.await
                })
            })
            .collect();
        let mut results = Vec::with_capacity(callers);
        for task in tasks {
            results.push(joined(task).await);
        }
        results
    }

    fn is_movable(&self) -> bool {
        is_movable(self.inner.harness.clock(), self.inner.setting)
    }
}

/// The result of a task, or its panic.
pub(crate) async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
