//! [`RunTracker`]: counts the runs of an engine, so that a shutdown can refuse new ones and wait for the rest.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::error::{Effect, Operation, StoreError, StoreErrorKind};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// The engine was shut down: the source of the error that refused callers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this engine is shutting down; send the request to another process")]
#[non_exhaustive]
pub struct EngineShutdown;

/// The error that refused callers get.
pub(crate) fn shutting_down() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Reserve)
        .with_source(EngineShutdown)
}

#[derive(Default)]
pub(crate) struct RunTracker {
    running: AtomicUsize,
    /// How many of them run without protection.
    unprotected: AtomicUsize,
    is_closed: AtomicBool,
    /// `is_closed` became true, or `running` became zero after that.
    changed: Notify,
}

impl RunTracker {
    /// Counts a run, unless the engine was shut down.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<RunGuard, StoreError> {
        // Counted before the check, so that either this sees the shutdown or the shutdown sees this run.
        let guard = self.track();
        if self.is_closed() { Err(shutting_down()) } else { Ok(guard) }
    }

    /// Counts work that a run left behind, also after a shutdown.
    pub(crate) fn track(self: &Arc<Self>) -> RunGuard {
        self.running.fetch_add(1, Ordering::SeqCst);
        RunGuard { tracker: Arc::clone(self), is_unprotected: false }
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Waits until the engine is shut down.
    pub(crate) async fn closed(&self) {
        self.until(|| self.is_closed()).await;
    }

    /// Waits until no run is left.
    pub(crate) async fn idle(&self) {
        self.until(|| self.running() == 0).await;
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn unprotected(&self) -> usize {
        self.unprotected.load(Ordering::SeqCst)
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            // Created before the check, so that a change between the check and the wait is not missed.
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

/// Counts one run, from before its reservation to the end of its settlement.
pub(crate) struct RunGuard {
    tracker: Arc<RunTracker>,
    is_unprotected: bool,
}

impl RunGuard {
    /// The run continues without protection.
    pub(crate) fn unprotected(mut self) -> Self {
        self.is_unprotected = true;
        self.tracker.unprotected.fetch_add(1, Ordering::SeqCst);
        self
    }
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        let tracker = &self.tracker;
        if self.is_unprotected {
            tracker.unprotected.fetch_sub(1, Ordering::SeqCst);
        }
        if tracker.running.fetch_sub(1, Ordering::SeqCst) == 1 && tracker.is_closed() {
            tracker.changed.notify_waiters();
        }
    }
}
