//! [`Locked`]: what a transaction found when it locked the record of its key.

use tokio_postgres::Row;

use crate::instant::Instant;
use crate::row::{RowError, column, instant, state};
use crate::transaction::TransactionError;

/// A record that is locked, in flight and this owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// The transaction that has the lock.
    pub(crate) transaction: i64,
    /// The server's process that runs it.
    pub(crate) backend: i32,
}

impl Locked {
    /// What the row of `sql/lock.sql` says: the lock, or why the key is not the owner's to complete.
    pub(crate) fn decode(row: Option<&Row>) -> Result<Result<Self, TransactionError>, RowError> {
        let Some(row) = row else { return Ok(Err(TransactionError::Lost)) };
        let now = column::<Instant>(row, 0, "now")?.0;
        let version: i16 = column(row, 3, "version")?;
        if version != crate::row::VERSION {
            return Err(RowError::of_version(version));
        }
        if now >= instant(row, 5, "expires_at")? {
            return Ok(Err(TransactionError::Lost));
        }
        match column::<i8>(row, 4, "state")? {
            state::IN_FLIGHT | state::ABANDONED => Ok(Ok(Self {
                transaction: column(row, 1, "transaction")?,
                backend: column(row, 2, "backend")?,
            })),
            state::COMPLETED | state::NOT_KEPT => Ok(Err(TransactionError::AlreadyCompleted)),
            state::RELEASED => Ok(Err(TransactionError::Lost)),
            _ => Err(RowError::Malformed("state")),
        }
    }
}
