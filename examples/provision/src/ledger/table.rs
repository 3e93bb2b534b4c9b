//! The ledger in the Postgres database of the store.

use idem_postgres::PostgresStore;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::row::{Entry, Row};
use crate::failure::Failure;

/// A ledger in a table, which is read through the store's pool.
#[derive(Clone)]
pub(crate) struct Table {
    store: PostgresStore,
}

impl Entry {
    /// Appends the row in the client's current transaction, if there is one, and returns its id.
    pub(crate) async fn append_to(&self, client: &Client) -> Result<i64, tokio_postgres::Error> {
        let (kind, attempt) = (self.kind.name(), i64::from(self.attempt));
        // Unnamed, so that it works behind a pooler, too.
        let rows = client
            .query_typed(
                include_str!("../sql/postgres/append.sql"),
                &[
                    (&kind, Type::TEXT),
                    (&self.team, Type::TEXT),
                    (&self.name, Type::TEXT),
                    (&self.key, Type::TEXT),
                    (&attempt, Type::INT8),
                    (&self.fence, Type::INT8),
                    (&self.outcome, Type::TEXT),
                ],
            )
            .await?;
        rows[0].try_get(0)
    }
}

impl Table {
    /// Opens the ledger, and makes it if it is not there.
    pub(crate) async fn open(store: PostgresStore) -> Result<Self, Failure> {
        store.pool().get().await?.batch_execute(include_str!("../sql/postgres/create_ledger.sql")).await?;
        Ok(Self { store })
    }

    pub(super) async fn append(&self, entry: Entry) -> Result<(i64, Entry), Failure> {
        let id = entry.append_to(&*self.store.pool().get().await?).await?;
        Ok((id, entry))
    }

    pub(super) async fn rows(&self) -> Result<Vec<Row>, Failure> {
        let client = self.store.pool().get().await?;
        let rows = client.query_typed(include_str!("../sql/postgres/rows.sql"), &[]).await?;
        let row = |row: &tokio_postgres::Row| -> Result<Row, tokio_postgres::Error> {
            Ok(Row {
                id: row.try_get(0)?,
                kind: row.try_get(1)?,
                team: row.try_get(2)?,
                name: row.try_get(3)?,
                key: row.try_get(4)?,
                attempt: row.try_get(5)?,
                fence: row.try_get(6)?,
                outcome: row.try_get(7)?,
                at: row.try_get(8)?,
            })
        };
        Ok(rows.iter().map(row).collect::<Result<_, _>>()?)
    }
}
