//! [`Floor`]: the cheapest way to do an idempotency store's work in bare SQLite, as durable as the store.
//!
//! A first request claims its key in one transaction, and puts the answer into the claim in another. One connection,
//! prepared statements, no queue and no other thread: that is as fast as one transaction per operation can be, also
//! for many callers, since SQLite lets one write at a time. There are no leases, attempts, fences, no expiry and no
//! futures.

use std::path::Path;

use idem_core::{Fingerprint, Key};
use rusqlite::{Connection, OptionalExtension};

use crate::load::Request;

/// How long a floor that shares its file waits for the other writer.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Floor {
    connection: Connection,
}

impl Floor {
    /// Makes the table in a new file.
    pub(crate) fn create(file: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(include_str!("floor.sql"))?;
        Ok(Self { connection })
    }

    /// Claims the key and answers it, each in a transaction of its own.
    pub(crate) fn first_request(&self, fingerprint: Fingerprint, request: &Request) -> rusqlite::Result<()> {
        const CLAIM: &str =
            "INSERT INTO claim (key, owner, fingerprint) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO NOTHING";
        const ANSWER: &str = "UPDATE claim SET answer = ?3 WHERE key = ?1 AND owner = ?2 AND answer IS NULL";

        let (key, owner) = (request.key.as_bytes(), request.owner.as_bytes());
        let claimed = self.connection.prepare_cached(CLAIM)?.execute((key, owner, fingerprint.as_bytes()))?;
        assert_eq!(claimed, 1, "the key is new");
        let answered = self.connection.prepare_cached(ANSWER)?.execute((key, owner, &request.answer[..]))?;
        assert_eq!(answered, 1, "the claim is ours");
        Ok(())
    }

    /// The answer, and what a duplicate has to be compared with.
    pub(crate) fn look_up(&self, key: &Key) -> rusqlite::Result<Option<(Vec<u8>, Vec<u8>)>> {
        const LOOK_UP: &str = "SELECT fingerprint, answer FROM claim WHERE key = ?1 AND answer IS NOT NULL";
        let mut statement = self.connection.prepare_cached(LOOK_UP)?;
        statement.query_row([key.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }
}
