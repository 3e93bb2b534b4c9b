//! [`Engine::shutdown`]: refuses new runs, waits for the others, and abandons the rest.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::engine::Engine;
use crate::engine::retry::RetryPolicy;
use crate::engine::run::Run;
use crate::engine::settlement;
use crate::engine::shared::Shared;
use crate::store::{AbandonOutcome, Span};

/// How many abandons are sent at once.
const ABANDONS_AT_ONCE: usize = 128;

/// How [`Engine::shutdown`] ended: a number of runs for each way to end.
#[must_use = "it says what is left to do"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Runs that ended by themselves before the deadline, and callers that were not admitted yet and were refused.
    pub drained: usize,
    /// Runs that did not end before the deadline and were abandoned. Their handlers have lost their lease. The next
    /// caller of such a key may run at once, as a further attempt.
    pub abandoned: usize,
    /// Runs whose end the store has not acknowledged: their completion or release is still being sent, or they could not
    /// be abandoned. If this process ends now, their leases have to run out.
    pub unsettled: usize,
    /// Runs without protection that are still running.
    pub unprotected: usize,
}

impl Engine {
    /// Refuses new runs, waits at most `deadline` for the runs in progress, and abandons the rest.
    ///
    /// Refused callers, also those that wait for the answer of another run, get a [`StoreError`](crate::StoreError) of
    /// the kind `Unavailable` whose source is [`EngineShutdown`](crate::EngineShutdown).
    ///
    /// A handler that is still running at the deadline is not stopped, but its reservation is given up and its
    /// [`Attempt::lost`](crate::Attempt::lost) returns. A handler that has returned is not abandoned: its completion
    /// continues. Call it again to wait for the rest.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let (shared, tracker) = (self.shared(), &self.shared().tracker);
        let deadline = Instant::now() + deadline.min(Span::MAX.into());
        tracker.close();
        let before = tracker.running();
        // The runs that are left at the deadline are counted below.
        let _ = timeout_at(deadline, tracker.idle()).await;
        let drained = before.saturating_sub(tracker.running());

        // The first to decide how a run ends wins: a handler that returns now completes.
        let undecided = shared.heartbeat.live().into_iter().filter(|run| run.decide());
        let abandoned = abandon_all(shared, undecided.collect()).await;
        let unprotected = tracker.unprotected();
        let unsettled = tracker.running().saturating_sub(abandoned + unprotected);
        ShutdownReport { drained, abandoned, unsettled, unprotected }
    }
}

/// Abandons the runs, many at once and all within one `reserve_timeout`. Returns how many the store acknowledged.
async fn abandon_all(shared: &Arc<Shared>, runs: Vec<Arc<Run>>) -> usize {
    let deadline = Instant::now() + shared.settings.reserve_timeout;
    let mut abandoned = 0;
    let mut runs = runs.into_iter();
    let mut abandons = JoinSet::new();
    loop {
        for run in runs.by_ref().take(ABANDONS_AT_ONCE - abandons.len()) {
            run.lose();
            let shared = Arc::clone(shared);
            let timeout = deadline.saturating_duration_since(Instant::now());
            abandons.spawn(async move {
                settlement::abandon(&*shared.store, &run, timeout, RetryPolicy::IfTransient).await
            });
        }
        match abandons.join_next().await {
            Some(Ok(Ok(AbandonOutcome::Abandoned))) => abandoned += 1,
            Some(_) => {}
            None => return abandoned,
        }
    }
}
