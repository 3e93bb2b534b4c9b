//! [`Server`]: the facts about a server and its tables that decide whether and how well the store works.

use crate::connection::PooledConnection;
use crate::error::{Cause, Failure};
use crate::record::RowError;
use crate::sql::Names;
use crate::store::StoreInner;

/// `date_trunc` with a time zone, and materialized common table expressions.
const OLDEST_SERVER: i32 = 120_000;
/// `client_connection_check_interval`.
const DETECTS_LOST_CLIENTS: i32 = 140_000;
/// `pg_class.relpersistence` of an unlogged table.
const UNLOGGED: i8 = i8::from_be_bytes([b'u']);

pub(super) struct Server {
    version: i32,
    is_standby: bool,
    is_read_only: bool,
    synchronous_commit: String,
    fsync: String,
    pub(super) has_schema: bool,
    /// Of the table and of its `_meta` table; `None` if it does not exist.
    persistence: [Option<i8>; 2],
}

impl Server {
    pub(super) async fn query(
        store: &StoreInner,
        connection: &mut PooledConnection,
    ) -> Result<Self, Failure> {
        let Names { schema, table } = &store.names;
        let meta = format!("{table}_meta");
        let row = connection.query_opt(&store.sql.server, &[schema, table, &meta]).await?;
        let row = row.ok_or(RowError::Malformed("server"))?;
        let columns = || {
            Ok::<_, tokio_postgres::Error>(Self {
                version: row.try_get(0)?,
                is_standby: row.try_get(1)?,
                is_read_only: row.try_get::<_, String>(2)? == "on",
                synchronous_commit: row.try_get(3)?,
                fsync: row.try_get(4)?,
                has_schema: row.try_get(5)?,
                persistence: [row.try_get(6)?, row.try_get(7)?],
            })
        };
        Ok(columns().map_err(|_| RowError::Malformed("server"))?)
    }

    pub(super) fn check(&self) -> Result<(), Cause> {
        if self.version < OLDEST_SERVER {
            return Err(Cause::OldServer { major: self.version / 10_000 });
        }
        if self.is_standby {
            return Err(Cause::Standby);
        }
        if self.is_read_only {
            return Err(Cause::ReadOnly);
        }
        Ok(())
    }

    /// Whether the server can notice during a statement that its client is gone; it depends on its operating system.
    pub(super) async fn detects_lost_clients(
        &self,
        store: &StoreInner,
        connection: &mut PooledConnection,
    ) -> Result<bool, Failure> {
        if self.version < DETECTS_LOST_CLIENTS {
            return Ok(false);
        }
        match connection.query_opt(&store.sql.client_check, &[]).await {
            // The server refused the setting; nothing is wrong with the connection.
            Err(failure) if !failure.ends_connection() => Ok(false),
            row => row.map(|_| true),
        }
    }

    /// Warns about settings that are allowed and weaken the store's promises.
    pub(super) fn warn(&self, names: &Names) {
        if self.synchronous_commit == "off" {
            tracing::warn!(
                "synchronous_commit is off: a crash of the server can lose acknowledged reservations and answers"
            );
        }
        if self.fsync == "off" {
            tracing::warn!("fsync is off: a power failure can lose or damage all data");
        }
        if self.persistence.contains(&Some(UNLOGGED)) {
            tracing::warn!(
                schema = names.schema,
                table = names.table,
                "the table is UNLOGGED: a crash of the server empties it, and every request counts as new"
            );
        }
    }
}
