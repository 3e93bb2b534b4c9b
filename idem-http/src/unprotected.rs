//! [`Unprotected`]: how many handlers run past a store that could not be reached. The engine knows nothing of them once
//! it has let them in, and a shutdown has to wait for them all the same: their clients may have hung up.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts the runs of a layer without protection.
#[derive(Debug, Default)]
pub(crate) struct Unprotected {
    running: watch::Sender<usize>,
}

/// One of them. It is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    running: watch::Sender<usize>,
}

impl Unprotected {
    pub(crate) fn begin(&self) -> Running {
        self.running.send_modify(|running| *running += 1);
        Running { running: self.running.clone() }
    }

    /// Waits until none is left or the time is up. How many are left.
    pub(crate) async fn drained(&self, within: Duration) -> usize {
        let mut running = self.running.subscribe();
        // Nothing is lost when the time is up: what remains is counted next.
        let _ = timeout(within, running.wait_for(|running| *running == 0)).await;
        *self.running.borrow()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.running.send_modify(|running| *running -= 1);
    }
}
