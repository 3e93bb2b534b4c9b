//! What `--store` names.

use std::sync::Arc;

use idem_core::ReservationStore;
use idem_memory::MemoryStore;
use idem_redis::RedisStore;
use idem_sqlite::SqliteStore;

use crate::Failure;

/// The URLs that are known, for people.
const KNOWN: &str = "`memory:`, `sqlite:PATH`, `redis://..` or `redis+cluster://..`";

/// A store, and what it can do beside the trait.
pub(crate) struct Store {
    pub(crate) records: Arc<dyn ReservationStore>,
    /// The store again, if it can complete in a transaction of the handler.
    pub(crate) sqlite: Option<SqliteStore>,
}

impl Store {
    /// Opens the store of a URL.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        // Schemes of the same store differ in what follows the first word: `redis+cluster`, `rediss`, ..
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        let family = scheme.map(|scheme| scheme.split_once('+').map_or(scheme, |(family, _)| family));
        let (records, sqlite): (Arc<dyn ReservationStore>, _) = match family {
            Some("memory") => (Arc::new(MemoryStore::connect(url).await?), None),
            Some("sqlite") => {
                let store = SqliteStore::connect(url).await?;
                (Arc::new(store.clone()), Some(store))
            }
            Some("redis" | "rediss") => (Arc::new(RedisStore::connect(url).await?), None),
            // The rest of the URL may hold a password.
            Some(family) => {
                return Err(
                    format!("--store has an unknown scheme, `{family}:`; these are known: {KNOWN}").into()
                );
            }
            None => return Err(format!("--store is a URL: {KNOWN}").into()),
        };
        Ok(Self { records, sqlite })
    }

    /// Waits until what was handed to the store is done.
    pub(crate) async fn close(self) {
        if let Some(sqlite) = self.sqlite {
            sqlite.close().await;
        }
    }
}
