//! Shutting an engine down: no new runs, an end to those under way, and the rest abandoned.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::engine::Shared;
use crate::engine::attempt::Ownership;
use crate::engine::retry::Resend;
use crate::engine::settlement;
use crate::store::Span;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::{AbandonOutcome, Effect, Engine, Operation, StoreError, StoreErrorKind};

/// How many abandons may be under way at once.
const ABANDONS_AT_ONCE: usize = 128;

/// How [`Engine::shutdown`] ended.
#[must_use = "it says what was left undone"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Runs that were under way and ended by themselves, and callers that were still being admitted and were refused.
    pub drained: usize,
    /// Runs that were not over at the deadline and were abandoned: the next caller of such a key may run at once, as a
    /// further attempt. Their handlers have lost their lease and are told so.
    pub abandoned: usize,
    /// Runs whose end the store has not acknowledged: their completion or release is still under way, or they could
    /// not be abandoned. If this process ends now, their leases have to run out.
    pub unsettled: usize,
    /// Runs without protection that are still running.
    pub unprotected: usize,
}

impl Engine {
    /// Refuses new runs, waits for those under way until `deadline` has passed, and abandons what remains.
    ///
    /// Refused callers, those who wait for another's answer among them, get the error `Unavailable`, whose source is
    /// [`EngineShutdown`]. A handler that is still running at the deadline is not stopped (its task is its owner's),
    /// but its reservation is given up, and [`Attempt::lost`](crate::Attempt::lost) resolves. A handler that has
    /// returned is not abandoned: its completion goes on. Calling it again waits for what is left.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let shared = self.shared();
        let deadline = Instant::now() + deadline.min(Span::MAX.into());
        shared.activity.close();
        let before = shared.activity.running();
        // Nothing is lost when the time is up: what remains is counted next.
        let _ = timeout_at(deadline, shared.activity.idle()).await;
        let drained = before.saturating_sub(shared.activity.running());

        // Who decides first how a run ends has decided it: a handler that returns now completes.
        let undecided = shared.heartbeat.live().into_iter().filter(|run| run.decide());
        let abandoned = abandon_all(shared, undecided.collect()).await;
        let unprotected = shared.activity.unprotected.load(Ordering::SeqCst);
        let unsettled = shared.activity.running().saturating_sub(abandoned + unprotected);
        ShutdownReport { drained, abandoned, unsettled, unprotected }
    }
}

/// Abandons the runs, many at a time and all within one `reserve_timeout`. How many of them the store acknowledged.
async fn abandon_all(shared: &Arc<Shared>, runs: Vec<Arc<Ownership>>) -> usize {
    let deadline = Instant::now() + shared.policy.reserve_timeout;
    let mut abandoned = 0;
    let mut runs = runs.into_iter();
    let mut under_way = JoinSet::new();
    loop {
        for run in runs.by_ref().take(ABANDONS_AT_ONCE - under_way.len()) {
            run.lose();
            let shared = Arc::clone(shared);
            let within = deadline.saturating_duration_since(Instant::now());
            under_way.spawn(async move {
                settlement::abandon(&*shared.store, &run, within, Resend::Transient).await
            });
        }
        match under_way.join_next().await {
            Some(Ok(Ok(AbandonOutcome::Abandoned))) => abandoned += 1,
            Some(_) => {}
            None => return abandoned,
        }
    }
}

/// The engine was shut down: the source of the error that refused callers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this engine is shutting down; send the request to another process")]
#[non_exhaustive]
pub struct EngineShutdown;

/// What refused callers get.
pub(crate) fn shutting_down() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Reserve)
        .with_source(EngineShutdown)
}

/// Counts the runs of an engine, and says when there are to be no more.
#[derive(Default)]
pub(crate) struct Activity {
    running: AtomicUsize,
    /// How many of them run without protection.
    unprotected: AtomicUsize,
    is_closed: AtomicBool,
    /// `is_closed` became true, or `running` became zero after that.
    changed: Notify,
}

impl Activity {
    /// Counts a run, unless the engine was shut down.
    pub(crate) fn enter(shared: &Arc<Shared>) -> Result<Active, StoreError> {
        // Counted first and checked after, so that `close` either is seen here or sees this run.
        let active = Active::count(shared);
        if shared.activity.is_closed() { Err(shutting_down()) } else { Ok(active) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Resolves when the engine is shut down.
    pub(crate) async fn closed(&self) {
        self.until(|| self.is_closed()).await;
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    async fn idle(&self) {
        self.until(|| self.running() == 0).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            // Made before the condition is asked, so that a change after that is not missed.
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

/// One run, from before its reservation to the end of its settlement.
pub(crate) struct Active {
    shared: Arc<Shared>,
    is_unprotected: bool,
}

impl Active {
    /// Counts a run, or what one left to do, also after a shutdown.
    pub(crate) fn count(shared: &Arc<Shared>) -> Self {
        shared.activity.running.fetch_add(1, Ordering::SeqCst);
        Self { shared: Arc::clone(shared), is_unprotected: false }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The run goes on without protection.
    pub(crate) fn unprotected(mut self) -> Self {
        self.is_unprotected = true;
        self.shared.activity.unprotected.fetch_add(1, Ordering::SeqCst);
        self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let activity = &self.shared.activity;
        if self.is_unprotected {
            activity.unprotected.fetch_sub(1, Ordering::SeqCst);
        }
        if activity.running.fetch_sub(1, Ordering::SeqCst) == 1 && activity.is_closed() {
            activity.changed.notify_waiters();
        }
    }
}
