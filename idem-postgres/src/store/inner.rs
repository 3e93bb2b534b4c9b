//! [`StoreInner`]: what the clones of a store share, and what all operations use.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use deadpool_postgres::Pool;
use idem_core::Key;
use idem_core::backend::Backoff;
use idem_core::store::OwnerToken;

use crate::connection::{PooledConnection, TransactionConnection};
use crate::error::Failure;
use crate::options::PostgresOptions;
use crate::record::Found;
use crate::sql::{Binary, InvalidName, Names, Sql};

/// A row must fit into 1 GiB wherever the server handles it, together with its other columns.
const LONGEST_ANSWER: usize = 1_000_000_000;

pub(crate) struct StoreInner {
    pub(crate) pool: Pool,
    pub(crate) options: PostgresOptions,
    pub(crate) names: Names,
    pub(crate) sql: Sql,
    pub(crate) paused_heartbeats: PausedHeartbeats,
    /// Whether the server can notice during a statement that its client is gone. Set when the store has connected.
    pub(crate) detects_lost_clients: OnceLock<bool>,
    /// Set once finding and inserting in one transaction was not serializable: from then on they are two statements.
    pub(crate) inserts_separately: AtomicBool,
}

impl StoreInner {
    pub(crate) fn new(pool: Pool, mut options: PostgresOptions) -> Result<Self, InvalidName> {
        let names = Names::new(&options.schema, &options.table)?;
        options.max_answer_bytes = options.max_answer_bytes.min(LONGEST_ANSWER);
        Ok(Self {
            pool,
            options,
            sql: Sql::new(&names),
            names,
            paused_heartbeats: PausedHeartbeats::default(),
            detects_lost_clients: OnceLock::new(),
            inserts_separately: AtomicBool::new(false),
        })
    }

    pub(crate) async fn connection(&self) -> Result<PooledConnection, Failure> {
        PooledConnection::acquire(&self.pool, self.options.statements, self.options.pool_timeout).await
    }

    pub(crate) async fn transaction_connection(&self) -> Result<TransactionConnection, Failure> {
        TransactionConnection::acquire(&self.pool, self.options.statements, self.options.pool_timeout).await
    }

    /// Reads the record of a key, expired or not (INV-3 of the module `store`).
    pub(crate) async fn find(
        &self,
        connection: &mut PooledConnection,
        key: &Key,
    ) -> Result<Option<Found>, Failure> {
        let digest = Binary::from(key);
        let mut retries = Retries::new();
        loop {
            let row = match connection.query_opt(&self.sql.find, &[&digest]).await {
                Err(failure) if failure.is_conflict() && retries.wait().await => continue,
                row => row?,
            };
            let Some(row) = row else { return Ok(None) };
            let found = Found::decode(&row)?;
            // Reading takes microseconds, so that hardly any read is unstable, and almost never two in a row.
            if found.is_stable() || !retries.wait().await {
                return Ok(Some(found));
            }
        }
    }
}

/// How often one operation tries again when other callers are in its way.
#[derive(Debug)]
pub(crate) struct Retries {
    used: u32,
    backoff: Backoff,
}

impl Retries {
    /// All pauses together take less than a tenth of a second.
    const LIMIT: u32 = 7;

    pub(crate) const fn new() -> Self {
        Self { used: 0, backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(32)) }
    }

    /// Waits until the next retry. Returns `false` if none is left.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.used == Self::LIMIT {
            return false;
        }
        self.used += 1;
        // The first retry is immediate: the transaction in the way has usually just committed.
        if self.used > 1 {
            tokio::time::sleep(self.backoff.next_pause()).await;
        }
        true
    }
}

type HeldKey = ([u8; 32], OwnerToken);

/// The keys whose records are locked by open transactions of this process, and need no heartbeat. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct PausedHeartbeats {
    keys: Arc<Mutex<HashSet<HeldKey>>>,
}

impl PausedHeartbeats {
    pub(crate) fn contains(&self, key: &Key, owner: OwnerToken) -> bool {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // The list is mostly empty, and then the digest need not be computed.
        !keys.is_empty() && keys.contains(&(*key.digest().as_bytes(), owner))
    }

    /// Pauses the heartbeat until the returned guard is dropped.
    pub(crate) fn pause(&self, key: &Key, owner: OwnerToken) -> PausedHeartbeat {
        let key = (*key.digest().as_bytes(), owner);
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        PausedHeartbeat { paused: self.clone(), key }
    }
}

/// A heartbeat that is paused.
#[derive(Debug)]
pub(crate) struct PausedHeartbeat {
    paused: PausedHeartbeats,
    key: HeldKey,
}

impl Drop for PausedHeartbeat {
    fn drop(&mut self) {
        self.paused.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
