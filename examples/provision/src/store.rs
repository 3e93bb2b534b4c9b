//! What `--store` names.

use std::sync::Arc;

use idem_core::ReservationStore;
use idem_memory::MemoryStore;
use idem_sqlite::SqliteStore;

use crate::Failure;

/// A store, and what it can do beside the trait.
pub(crate) struct Store {
    pub(crate) records: Arc<dyn ReservationStore>,
    /// The store again, if it can complete in a transaction of the handler.
    pub(crate) sqlite: Option<SqliteStore>,
}

impl Store {
    /// Opens the store of a URL.
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("memory") => {
                Ok(Self { records: Arc::new(MemoryStore::connect(url).await?), sqlite: None })
            }
            Some("sqlite") => {
                let store = SqliteStore::connect(url).await?;
                Ok(Self { records: Arc::new(store.clone()), sqlite: Some(store) })
            }
            // The rest of the URL may hold a password.
            Some(scheme) => Err(format!(
                "the scheme `{scheme}:` of --store is not supported here; these are: `memory:` and `sqlite:PATH`"
            )
            .into()),
            None => Err("--store is a URL: `memory:` or `sqlite:PATH`".into()),
        }
    }

    /// Waits until what was handed to the store is done.
    pub(crate) async fn close(self) {
        if let Some(sqlite) = self.sqlite {
            sqlite.close().await;
        }
    }
}
