//! What a transaction finds when it locks the record of its key, or could not complete it. Two drivers read these rows, so
//! that they are taken from whatever gives columns.

use idem_core::CompleteOutcome;

use crate::row::{RowError, VERSION, state};
use crate::transaction::TransactionError;

/// A record that is locked, in flight and this owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    /// The transaction that has the lock.
    pub(crate) transaction: i64,
    /// The server's process that runs it.
    pub(crate) backend: i32,
}

/// The columns of `sql/lock.sql`.
pub(crate) type LockRow = (Option<i64>, i32, i16, i8, bool);

impl Locked {
    /// The lock, or why the key is not the owner's to complete.
    pub(crate) fn found(row: Option<LockRow>) -> Result<Result<Self, TransactionError>, RowError> {
        let Some((transaction, backend, version, state, is_expired)) = row else {
            return Ok(Err(TransactionError::Lost));
        };
        if version != VERSION {
            return Err(RowError::of_version(version));
        }
        Ok(match state {
            // Also if its answer has expired: this owner's it was.
            state::COMPLETED | state::NOT_KEPT => Err(TransactionError::AlreadyCompleted),
            _ if is_expired => Err(TransactionError::Lost),
            state::IN_FLIGHT | state::ABANDONED => {
                // Whoever locks has a number.
                let transaction = transaction.ok_or(RowError::Malformed("transaction"))?;
                Ok(Self { transaction, backend })
            }
            state::RELEASED => Err(TransactionError::Lost),
            _ => return Err(RowError::Malformed("state")),
        })
    }
}

/// The columns of `sql/uncompleted.sql`.
pub(crate) type UncompletedRow = (i16, bool, i8, bool, Option<bool>);

/// What a completion that was not written is told. `None`: it can be by now.
pub(crate) fn uncompleted(
    (version, is_owner, state, is_expired, is_same): UncompletedRow,
) -> Result<Option<CompleteOutcome>, RowError> {
    if is_expired {
        return Ok(Some(CompleteOutcome::Lost));
    }
    if version != VERSION {
        return Err(RowError::of_version(version));
    }
    Ok(match state {
        _ if !is_owner => Some(CompleteOutcome::Lost),
        state::IN_FLIGHT | state::ABANDONED => None,
        state::COMPLETED | state::NOT_KEPT if is_same == Some(true) => {
            Some(CompleteOutcome::AlreadyCompleted)
        }
        state::COMPLETED | state::NOT_KEPT => Some(CompleteOutcome::AnswerConflict),
        state::RELEASED => Some(CompleteOutcome::Lost),
        _ => return Err(RowError::Malformed("state")),
    })
}
