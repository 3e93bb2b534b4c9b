//! [`Context`]: what a case is given: a fresh store, callers with tokens of their own, and time to let pass.

use crate::span;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveRequest};
use idem_core::{Fingerprint, Key, ReservationStore};
use tokio::sync::Barrier;

use crate::caller::Caller;
use crate::case::{Setting, is_movable};
use crate::{Clock, Harness, Instance};

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a case is given. A clone is the same context.
#[derive(Clone)]
pub(crate) struct Context {
    shared: Arc<Shared>,
}

struct Shared {
    harness: Arc<dyn Harness>,
    instance: Box<dyn Instance>,
    store: Arc<dyn ReservationStore>,
    setting: Setting,
    key: Key,
    tokens: AtomicU64,
}

impl Context {
    pub(crate) async fn new(harness: Arc<dyn Harness>, setting: Setting) -> Self {
        let instance = harness.fresh().await;
        Self::over(harness, instance, setting)
    }

    /// The same surroundings over another instance.
    pub(crate) fn over(harness: Arc<dyn Harness>, instance: Box<dyn Instance>, setting: Setting) -> Self {
        let store = instance.store();
        let key = usual_key();
        Self {
            shared: Arc::new(Shared { harness, instance, store, setting, key, tokens: AtomicU64::new(1) }),
        }
    }

    pub(crate) fn harness(&self) -> &Arc<dyn Harness> {
        &self.shared.harness
    }

    pub(crate) fn setting(&self) -> Setting {
        self.shared.setting
    }

    pub(crate) fn instance(&self) -> &dyn Instance {
        &*self.shared.instance
    }

    pub(crate) fn store(&self) -> Arc<dyn ReservationStore> {
        Arc::clone(&self.shared.store)
    }

    /// A new handle to the same data.
    pub(crate) async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.shared.instance.second_handle().await
    }

    /// A caller of the case's usual key, with a token of its own. It asks for a lease of an hour, which ends in no
    /// case by itself.
    pub(crate) fn caller(&self) -> Caller {
        self.caller_of(&self.key())
    }

    /// A caller of another key.
    pub(crate) fn caller_of(&self, key: &Key) -> Caller {
        let request = ReserveRequest::new(self.token(), fingerprint("payload"), span(HOUR));
        Caller { store: self.store(), key: key.clone(), request }
    }

    /// The case's usual key.
    pub(crate) fn key(&self) -> Key {
        self.shared.key.clone()
    }

    /// A token that no other caller of this case has.
    pub(crate) fn token(&self) -> OwnerToken {
        let number = self.shared.tokens.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0xa5; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        OwnerToken::from_bytes(bytes)
    }

    /// A span that the case waits out: a minute if the clock can be moved, else as short as the harness wants it.
    pub(crate) fn span(&self) -> Duration {
        if self.is_movable() { MINUTE } else { self.shared.harness.short_span() }
    }

    /// Lets at least `by` pass on the store's clock.
    pub(crate) async fn pass(&self, by: Duration) {
        let Shared { harness, instance, setting, .. } = &*self.shared;
        match (harness.clock(), setting) {
            (Clock::Tokio, Setting::Store) => tokio::time::advance(by).await,
            // Sleeping on the paused clock moves it too, and lets every timer before the end have its turn.
            (Clock::Tokio, Setting::Engine | Setting::Threads) => tokio::time::sleep(by).await,
            (Clock::Manual | Clock::Adjustable, Setting::Engine) => {
                instance.advance(by).await;
                tokio::time::sleep(by).await;
            }
            (Clock::Manual | Clock::Adjustable | Clock::Real, _) => instance.advance(by).await,
        }
    }

    /// Lets time pass until `is_true`, and fails the case if that never comes.
    pub(crate) async fn until(&self, what: &str, mut is_true: impl AsyncFnMut() -> bool) {
        for _ in 0..10_000 {
            if is_true().await {
                return;
            }
            self.pass(MILLI).await;
        }
        panic!("it never came that {what}");
    }

    /// Runs `callers` at once, each in a task of its own, half of them through a second handle, and gives their
    /// results in order. They set out together, so as to meet.
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
        is_movable(self.shared.harness.clock(), self.shared.setting)
    }
}

/// The result of a task, or its panic.
pub(crate) async fn joined<T>(task: tokio::task::JoinHandle<T>) -> T {
    match task.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The key that most cases use.
pub(crate) fn usual_key() -> Key {
    key("tenant", "request")
}

pub(crate) fn key(scope: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Key {
    Key::new(scope, name).expect("the cases' keys have 1 to 255 bytes each")
}

pub(crate) fn fingerprint(payload: &str) -> Fingerprint {
    Fingerprint::from_parts([payload])
}
