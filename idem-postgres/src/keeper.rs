//! The task that removes expired records in the background. It ends with the last clone of the store.

use std::sync::{Arc, Weak};

use crate::row::RowError;
use crate::store::{Inner, SWEEP_BATCH};

/// Starts the task, on the runtime of the caller.
pub(crate) fn start(inner: &Arc<Inner>) {
    let interval = inner.options.upkeep_interval.max(std::time::Duration::from_millis(1));
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            // Several processes do this at the same interval: of those at work at the same time, one sweeps.
            if sweep(&inner).await.is_none() {
                return;
            }
        }
    });
}

/// Removes what has expired, in batches. `None`: the store is gone.
async fn sweep(inner: &Weak<Inner>) -> Option<()> {
    loop {
        let inner = inner.upgrade()?;
        // What fails now is done at the next interval; what it was, the operations say.
        if !matches!(is_due(&inner).await, Ok(true)) {
            return Some(());
        }
        match inner.sweep_batch(SWEEP_BATCH).await {
            Ok(SWEEP_BATCH) => {}
            _ => return Some(()),
        }
    }
}

/// Without anything to remove, nothing is locked.
async fn is_due(inner: &Inner) -> Result<bool, crate::error::Failure> {
    let row = inner.connection().await?.query_opt(&inner.sql.due, &[]).await?;
    let row = row.ok_or(RowError::Malformed("due"))?;
    Ok(row.try_get(0).map_err(|_| RowError::Malformed("due"))?)
}
