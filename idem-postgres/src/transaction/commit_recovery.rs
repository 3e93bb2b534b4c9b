//! Finds out how a transaction ended when no answer to its COMMIT says so, and settles its key.
//!
//! INV-1: a key is released only if the server said that the transaction with its effect was rolled back. If that is not
//! known, or the caller's SQL committed the effect, the key is abandoned, so that the number of the next attempt is above 1.
//! INV-2: the outcome of a COMMIT comes from the server's answer, or from the record after its lock was acquired: by then the
//! transaction that held the lock is over.

use idem_core::{Effect, Operation, Reservation, StoreError, StoreErrorKind, backend};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::SqlState;

use super::error::TransactionError;
use super::limits::{LOCK_TIMEOUT, PAUSE, ROLLBACK_TIMEOUT, STATUS_TIMEOUT, idle_timeout};
use super::session::LockedRecord;
use crate::error::Failure;
use crate::record::RowError;
use crate::sql::{Binary, Parameter};
use crate::store::StoreInner;

/// Finds out whether a COMMIT without an answer took effect (INV-2). `error` is returned if it did not or cannot be known.
pub(super) async fn recover_commit(
    store: &StoreInner,
    reservation: &Reservation,
    transaction: LockedRecord,
    mut error: StoreError,
) -> Result<(), TransactionError> {
    let deadline = Instant::now() + idle_timeout(store) + LOCK_TIMEOUT;
    let (digest, owner) = (Binary::from(reservation.key()), Binary::from(backend::owner(reservation)));
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        let lock = async {
            let mut connection = store.connection().await?;
            // The statement is a transaction of its own, so that the lock ends with it.
            let rows = connection.query(&store.sql.lock_record, &[&digest, &owner]).await?;
            LockedRecord::decode(&rows).map_err(Failure::Row)
        };
        match timeout(left, lock).await {
            Ok(Ok(Err(TransactionError::AlreadyCompleted))) => return Ok(()),
            Ok(Ok(Ok(_))) => {
                error.effect = Effect::NotApplied;
                break;
            }
            // The record belongs to another owner, after a rollback; or its answer has expired or was deleted.
            Ok(Ok(Err(lost))) => match TransactionStatus::query(store, transaction, false).await {
                TransactionStatus::RolledBack => return Err(lost),
                TransactionStatus::NotRolledBack | TransactionStatus::Unknown => break,
            },
            Ok(Err(Failure::Row(_))) | Err(_) => break,
            // The server may be restarting.
            Ok(Err(_)) => sleep(PAUSE).await,
        }
    }
    Err(error.into())
}

/// Settles the key after a transaction was not committed (INV-1), and says which error the caller gets.
pub(super) async fn settle(
    store: &StoreInner,
    locked: LockedRecord,
    is_same_server: bool,
    reservation: Reservation,
    error: TransactionError,
) -> TransactionError {
    let is_without_effect =
        matches!(&error, TransactionError::Store(error) if error.effect == Effect::NotApplied);
    if is_without_effect {
        match TransactionStatus::query(store, locked, is_same_server).await {
            TransactionStatus::RolledBack => {
                release_in_background(reservation);
                return error;
            }
            TransactionStatus::NotRolledBack => return TransactionError::Ended,
            TransactionStatus::Unknown => {}
        }
    }
    // The reservation is dropped here and above, which abandons the key. If it was completed, that changes nothing.
    error
}

/// Ends the session of a transaction that cannot be ended otherwise.
pub(super) async fn terminate_session(store: &StoreInner, locked: LockedRecord) {
    let parameters: [Parameter<'_>; 2] = [&locked.backend, &locked.transaction];
    let terminate = async {
        // Connections of the pool may be broken too, and are found to be when they are used.
        while let Ok(mut connection) = store.connection().await {
            match connection.query(&store.sql.terminate_session, &parameters).await {
                Err(failure) if failure.ends_connection() => sleep(PAUSE).await,
                _ => break,
            }
        }
    };
    // If this fails too, the server notices by itself, at the latest when the running statement ends.
    let _ = timeout(ROLLBACK_TIMEOUT, terminate).await;
}

/// Releases a key whose effect certainly did not happen.
pub(super) fn release_in_background(reservation: Reservation) {
    // The call starts the release, which continues in the background when its future is dropped.
    drop(reservation.release());
}

/// The error of a transaction that may have been committed.
pub(super) fn unknown(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, Effect::Unknown, Operation::Complete)
}

/// The status of a transaction whose COMMIT was not sent, was refused or was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransactionStatus {
    RolledBack,
    /// The caller's SQL ended it in another way: it is committed, or prepared to be.
    NotRolledBack,
    /// The server could not tell.
    Unknown,
}

impl TransactionStatus {
    /// Asks the server.
    ///
    /// `is_same_server`: the session of the transaction is still alive. Otherwise the server may have crashed, or another
    /// one may have taken its place, and the number may belong to another transaction.
    async fn query(store: &StoreInner, locked: LockedRecord, is_same_server: bool) -> Self {
        let query = async {
            loop {
                match query_status(store, locked).await {
                    Ok(Some(status)) if status == "aborted" => return Self::RolledBack,
                    Ok(Some(_)) if is_same_server => return Self::NotRolledBack,
                    // Its session has not noticed yet that it is over.
                    Ok(Some(status)) if status == "in progress" => {}
                    Ok(_) => return Self::Unknown,
                    // The server does not know the number: it crashed before anything of the transaction was on disk.
                    Err(failure) if failure.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                        return Self::RolledBack;
                    }
                    Err(_) => {}
                }
                sleep(PAUSE).await;
            }
        };
        timeout(STATUS_TIMEOUT, query).await.unwrap_or(Self::Unknown)
    }
}

async fn query_status(store: &StoreInner, locked: LockedRecord) -> Result<Option<String>, Failure> {
    let mut connection = store.connection().await?;
    let row = connection.query_opt(&store.sql.transaction_status, &[&locked.transaction]).await?;
    let row = row.ok_or(RowError::Malformed("status"))?;
    Ok(row.try_get(0).map_err(|_| RowError::Malformed("status"))?)
}
