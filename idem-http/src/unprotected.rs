//! [`UnprotectedRuns`]: counts the handlers that run without protection because the store was unavailable.
//!
//! The engine does not count them after it admits them, but a shutdown has to wait for them too: their clients may have
//! disconnected.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts the unprotected runs of a layer.
#[derive(Debug, Default)]
pub(crate) struct UnprotectedRuns {
    running: watch::Sender<usize>,
}

/// One unprotected run. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct UnprotectedRun {
    running: watch::Sender<usize>,
}

impl UnprotectedRuns {
    pub(crate) fn begin(&self) -> UnprotectedRun {
        self.running.send_modify(|running| *running += 1);
        UnprotectedRun { running: self.running.clone() }
    }

    /// Waits until no run is left, at most for `deadline`. Returns how many are left.
    pub(crate) async fn drained(&self, deadline: Duration) -> usize {
        let mut running = self.running.subscribe();
        // After a timeout, the rest is counted on the next line.
        let _ = timeout(deadline, running.wait_for(|running| *running == 0)).await;
        *self.running.borrow()
    }
}

impl Drop for UnprotectedRun {
    fn drop(&mut self) {
        self.running.send_modify(|running| *running -= 1);
    }
}
