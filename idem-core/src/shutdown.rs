//! Shutting an engine down: no new runs, an end to those under way, and the rest abandoned.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::attempt::Ownership;
use crate::engine::Shared;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::{AbandonOutcome, Effect, Engine, Operation, StoreError, StoreErrorKind};

/// How many abandons may be under way at once.
const ABANDONS_AT_ONCE: usize = 128;

/// How [`Engine::shutdown`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Runs that were under way and ended by themselves.
    pub drained: usize,
    /// Runs that were not over at the deadline and were abandoned: the next caller of such a key may run at once, as a
    /// further attempt.
    pub abandoned: usize,
    /// Runs that could not even be abandoned, since the store did not acknowledge it. Their leases have to run out.
    pub unsettled: usize,
}

impl Engine {
    /// Refuses new runs, waits for those under way until `deadline` has passed, and abandons what remains.
    ///
    /// Refused callers get the error `Unavailable`, whose source is [`EngineShutdown`]. A handler that is still
    /// running is not stopped (its task is its owner's), but its reservation is given up, and its heartbeat notices:
    /// [`Attempt::lost`](crate::Attempt::lost) resolves. Calling it again waits for what is left.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = self.shared();
        let deadline = Instant::now() + deadline;
        shared.activity.close();
        let before = shared.activity.running();
        // Nothing is lost when the time is up: what remains is counted next.
        let _ = timeout_at(deadline, shared.activity.idle()).await;
        let drained = before.saturating_sub(shared.activity.running());

        let (abandoned, unsettled) = abandon_all(shared, shared.heartbeat.live()).await;
        ShutdownReport { drained, abandoned, unsettled }
    }
}

/// Abandons the runs, many at a time and all within one `reserve_timeout`. How many were, and how many could not be.
async fn abandon_all(shared: &Shared, runs: Vec<Arc<Ownership>>) -> (usize, usize) {
    let deadline = Instant::now() + shared.policy.reserve_timeout;
    let (mut abandoned, mut unsettled) = (0, 0);
    let mut runs = runs.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        for run in runs.by_ref().take(ABANDONS_AT_ONCE - under_way.len()) {
            let store = Arc::clone(&shared.store);
            under_way.spawn(async move { timeout_at(deadline, store.abandon(&run.key, run.owner)).await });
        }
        match under_way.join_next().await {
            Some(Ok(Ok(Ok(AbandonOutcome::Abandoned)))) => abandoned += 1,
            // It ended between the count and now.
            Some(Ok(Ok(Ok(AbandonOutcome::AlreadyCompleted | AbandonOutcome::Lost)))) => {}
            Some(_) => unsettled += 1,
            None => return (abandoned, unsettled),
        }
    }
}

/// The engine was shut down: the source of the error that refused callers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this engine is shutting down; send the request to another process")]
#[non_exhaustive]
pub struct EngineShutdown;

/// Counts the runs of an engine.
#[derive(Default)]
pub(crate) struct Activity {
    running: AtomicUsize,
    closed: AtomicBool,
    changed: Notify,
}

impl Activity {
    /// Counts a run, unless the engine was shut down.
    pub(crate) fn enter(shared: &Arc<Shared>) -> Result<Active, StoreError> {
        let activity = &shared.activity;
        // Counted first and checked after, so that `close` either is seen here or sees this run.
        activity.running.fetch_add(1, Ordering::SeqCst);
        let active = Active { shared: Arc::clone(shared) };
        if activity.closed.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Reserve)
                .with_source(EngineShutdown));
        }
        Ok(active)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    async fn idle(&self) {
        loop {
            let changed = self.changed.notified();
            if self.running() == 0 {
                return;
            }
            changed.await;
        }
    }
}

/// One run, from before its reservation to its end.
pub(crate) struct Active {
    shared: Arc<Shared>,
}

impl Drop for Active {
    fn drop(&mut self) {
        let activity = &self.shared.activity;
        if activity.running.fetch_sub(1, Ordering::SeqCst) == 1 && activity.closed.load(Ordering::SeqCst) {
            activity.changed.notify_waiters();
        }
    }
}
