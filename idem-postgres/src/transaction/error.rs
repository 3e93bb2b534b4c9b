//! [`TransactionError`]: why a transaction was not begun or not committed.

use idem_core::StoreError;
use thiserror::Error;

/// Why a transaction was not begun or not committed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// The owner lost the key, or gave it up. Nothing was committed.
    #[error("the key does not belong to this owner any more; nothing was committed")]
    Lost,
    /// The owner completed the key before. Nothing was committed.
    #[error("this owner completed the key before; nothing was committed")]
    AlreadyCompleted,
    /// The caller's SQL ended the transaction with COMMIT or ROLLBACK before its completion. Its effect may be committed;
    /// its completion is not. The number of the next attempt is above 1.
    #[error(
        "a COMMIT or ROLLBACK in the caller's SQL ended the transaction, and its effect may be committed without its \
         completion; end it only with `complete` or `rollback`"
    )]
    Ended,
    /// The store failed.
    ///
    /// If the error's [`effect`](StoreError::effect) is `NotApplied`, nothing was committed and the key is free: released
    /// if the server confirmed the rollback, and abandoned if it could not be asked. If it is `Unknown`, it could not be
    /// found out whether the transaction was committed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
