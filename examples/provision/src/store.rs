//! What `--store` names.

use std::path::Path;
use std::sync::Arc;

use idem_core::ReservationStore;
use idem_memory::MemoryStore;
use idem_postgres::PostgresStore;
use idem_redis::RedisStore;
use idem_sqlite::SqliteStore;

use crate::failure::Failure;
use crate::ledger::{File, Ledger, Table};

/// The URLs that are known, for people.
const KNOWN: &str = "`memory:`, `sqlite:PATH`, `redis://..`, `redis+cluster://..` or `postgres://..`";

/// A store, and its transactions if it has any.
pub(crate) struct Store {
    pub(crate) records: Arc<dyn ReservationStore>,
    /// The store again, if it can complete in a transaction of the handler.
    pub(crate) transactions: Option<Transactions>,
}

/// A store in whose transactions a handler has its effect.
#[derive(Clone)]
pub(crate) enum Transactions {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
}

impl Store {
    /// Opens the store of a URL.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        // Schemes of the same store differ in what follows the first word: `redis+cluster`, `rediss`, ..
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        let family = scheme.map(|scheme| scheme.split_once('+').map_or(scheme, |(family, _)| family));
        let (records, transactions): (Arc<dyn ReservationStore>, _) = match family {
            Some("memory") => (Arc::new(MemoryStore::connect(url).await?), None),
            Some("sqlite") => {
                let store = SqliteStore::connect(url).await?;
                (Arc::new(store.clone()), Some(Transactions::Sqlite(store)))
            }
            Some("redis" | "rediss" | "valkey" | "valkeys") => {
                (Arc::new(RedisStore::connect(url).await?), None)
            }
            Some("postgres" | "postgresql") => {
                let store = PostgresStore::connect(url).await?;
                (Arc::new(store.clone()), Some(Transactions::Postgres(store)))
            }
            // The rest of the URL may hold a password.
            Some(family) => {
                return Err(
                    format!("--store has an unknown scheme, `{family}:`; these are known: {KNOWN}").into()
                );
            }
            None => return Err(format!("--store is a URL: {KNOWN}").into()),
        };
        Ok(Self { records, transactions })
    }

    /// Waits until what was handed to the store is done.
    pub(crate) async fn close(self) {
        if let Some(Transactions::Sqlite(sqlite)) = self.transactions {
            sqlite.close().await;
        }
    }
}

impl Transactions {
    /// The ledger in the store's own database. `url` is what the store was opened by.
    pub(crate) async fn ledger(&self, url: &str) -> Result<Ledger, Failure> {
        Ok(match self {
            Self::Sqlite(_) => {
                let file = url.strip_prefix("sqlite:").unwrap_or(url);
                Ledger::File(File::in_store(Path::new(file))?)
            }
            Self::Postgres(store) => Ledger::Table(Table::open(store.clone()).await?),
        })
    }
}
