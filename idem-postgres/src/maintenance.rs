//! How expired records are removed: by a sweep, and by a background task that ends with the last clone of the store.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::Failure;
use crate::record::RowError;
use crate::store::StoreInner;

/// How many records one statement of a sweep removes: few, so that it holds their locks only shortly.
const SWEEP_BATCH: usize = 1000;

/// Starts the task on the current runtime.
pub(crate) fn start(store: &Arc<StoreInner>) {
    let interval = store.options.maintenance_interval.max(Duration::from_millis(1));
    let store = Arc::downgrade(store);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            // Every process does this at its own interval. Of sweeps at the same time, only one removes records.
            if sweep_expired(&store).await.is_none() {
                return;
            }
        }
    });
}

impl StoreInner {
    pub(crate) async fn sweep(&self, limit: usize) -> Result<usize, Failure> {
        let mut removed = 0;
        while removed < limit {
            let batch = (limit - removed).min(SWEEP_BATCH);
            match self.sweep_batch(batch).await {
                Ok(swept) => {
                    removed += swept;
                    if swept < batch {
                        break;
                    }
                }
                // Earlier batches have removed records, so that an error could not say "without effect".
                Err(_) if removed > 0 => break,
                Err(failure) => return Err(failure),
            }
        }
        Ok(removed)
    }

    /// Removes at most `limit` and at most [`SWEEP_BATCH`] records, and says how many.
    async fn sweep_batch(&self, limit: usize) -> Result<usize, Failure> {
        let mut connection = self.connection().await?;
        let limit = i64::try_from(limit.min(SWEEP_BATCH)).unwrap_or(1);
        let row = connection.change(&self.sql.sweep, &[&limit]).await?;
        let removed: i64 = match row {
            Some(row) => row.try_get(0).map_err(|_| RowError::Malformed("count"))?,
            None => 0,
        };
        Ok(usize::try_from(removed).unwrap_or(0))
    }
}

/// Removes expired records in batches. `None` if the store is gone.
async fn sweep_expired(store: &Weak<StoreInner>) -> Option<()> {
    loop {
        let store = store.upgrade()?;
        // A failure is not reported: the next interval tries again, and operations report what is wrong.
        if !matches!(is_due(&store).await, Ok(true)) {
            return Some(());
        }
        match store.sweep_batch(SWEEP_BATCH).await {
            Ok(SWEEP_BATCH) => {}
            _ => return Some(()),
        }
    }
}

/// Whether a record has expired. It only reads, so that nothing is locked when there is nothing to remove.
async fn is_due(store: &StoreInner) -> Result<bool, Failure> {
    let row = store.connection().await?.query_opt(&store.sql.due, &[]).await?;
    let row = row.ok_or(RowError::Malformed("due"))?;
    Ok(row.try_get(0).map_err(|_| RowError::Malformed("due"))?)
}
