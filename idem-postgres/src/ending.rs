//! How a transaction came to its end, if not by an answer to its COMMIT; and what becomes of its key then.
//!
//! INV-1: a key is released only if the server said that the very transaction in which its effect was done was rolled
//! back. Where it is not known, or SQL of the user's has committed it, the key is abandoned, so that the next attempt is
//! told by its number.
//! INV-2: nothing is said of a commit but what the server said, or what the record says once its lock is free: then the
//! transaction that held it is over, in one way or the other.

use idem_core::backend;
use std::time::Duration;

use idem_core::{Effect, Operation, Reservation, StoreError, StoreErrorKind};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use crate::TransactionError;
use crate::binary::Binary;
use crate::connection::Parameter;
use crate::error::Failure;
use crate::lock::{LockRow, Locked};
use crate::row::RowError;
use crate::store::Inner;

/// How long the server may take to roll back, before the connection is given up.
pub(crate) const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the server may take to notice that a session is over, before its transaction's fate counts as unknown.
const FATE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the lock of an own record: others hold it for a statement.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may take to answer a COMMIT, before its record is asked what became of it.
pub(crate) const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that Postgres takes for a limit on idle transactions, in whole seconds; and so nothing is longer.
const LONGEST_IDLE: Duration = Duration::from_secs(2_147_483);
/// Between two attempts to learn what became of a transaction.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a transaction may do nothing.
pub(crate) fn longest_idle(store: &Inner) -> Duration {
    store.options.idle_in_transaction_timeout.clamp(Duration::from_millis(1), LONGEST_IDLE)
}

/// What became of a transaction whose COMMIT was not sent, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    RolledBack,
    /// SQL of its user's has ended it in another way: it is committed, or prepared to be.
    NotRolledBack,
    /// Nobody could say it.
    Unknown,
}

impl Fate {
    /// Asks the server. `is_same_server`: the session of the transaction has gone on to this moment. Otherwise the server
    /// may have crashed, or another have taken its place, and have given the number to another transaction.
    pub(crate) async fn ask(store: &Inner, locked: Locked, is_same_server: bool) -> Self {
        let asking = async {
            loop {
                match status(store, locked).await {
                    Ok(Some(status)) if status == "aborted" => return Self::RolledBack,
                    Ok(Some(_)) if is_same_server => return Self::NotRolledBack,
                    // Its session has not noticed yet that it is over.
                    Ok(Some(status)) if status == "in progress" => {}
                    Ok(_) => return Self::Unknown,
                    // Never heard of: a crash came before anything of it was on the disk.
                    Err(failure) if failure.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                        return Self::RolledBack;
                    }
                    Err(_) => {}
                }
                sleep(PAUSE).await;
            }
        };
        timeout(FATE_TIMEOUT, asking).await.unwrap_or(Self::Unknown)
    }
}

/// Does with the reservation what is right after an error (INV-1), and says which error that is.
pub(crate) async fn settle(
    store: &Inner,
    locked: Locked,
    is_same_server: bool,
    reservation: Reservation,
    error: TransactionError,
) -> TransactionError {
    let is_without_effect =
        matches!(&error, TransactionError::Store(error) if error.effect == Effect::NotApplied);
    if is_without_effect {
        match Fate::ask(store, locked, is_same_server).await {
            Fate::RolledBack => {
                give_back(reservation);
                return error;
            }
            Fate::NotRolledBack => return TransactionError::Ended,
            Fate::Unknown => {}
        }
    }
    // The reservation is dropped here and above: it is abandoned, which changes nothing if it was completed.
    error
}

async fn status(store: &Inner, locked: Locked) -> Result<Option<String>, Failure> {
    let row = store.connection().await?.query_opt(&store.sql.fate, &[&locked.transaction]).await?;
    let row = row.ok_or(RowError::Malformed("status"))?;
    Ok(row.try_get(0).map_err(|_| RowError::Malformed("status"))?)
}

/// What became of a commit that was not answered (INV-2).
pub(crate) async fn resolve(
    store: &Inner,
    reservation: &Reservation,
    transaction: Locked,
    mut error: StoreError,
) -> Result<(), TransactionError> {
    let until = Instant::now() + longest_idle(store) + LOCK_TIMEOUT;
    let digest = Binary::digest(reservation.key());
    let token = Binary(*backend::owner(reservation).as_bytes());
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        let asking = async {
            let mut held = store.connection().await?;
            // A transaction of its own, so that the lock is let go with it.
            let rows = held.query(&store.sql.lock, &[&digest, &token]).await?;
            locked(&rows).map_err(Failure::Row)
        };
        match timeout(left, asking).await {
            Ok(Ok(Err(TransactionError::AlreadyCompleted))) => return Ok(()),
            Ok(Ok(Ok(_))) => {
                error.effect = Effect::NotApplied;
                break;
            }
            // Somebody else's, since it was rolled back; or gone, since its answer has expired or was deleted.
            Ok(Ok(Err(lost))) => match Fate::ask(store, transaction, false).await {
                Fate::RolledBack => return Err(lost),
                Fate::NotRolledBack | Fate::Unknown => break,
            },
            Ok(Err(Failure::Row(_))) | Err(_) => break,
            // It is being restarted, say.
            Ok(Err(_)) => sleep(PAUSE).await,
        }
    }
    Err(error.into())
}

pub(crate) fn locked(rows: &[Row]) -> Result<Result<Locked, TransactionError>, RowError> {
    let columns = |row: &Row| -> Result<LockRow, tokio_postgres::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
    };
    let row = rows.first().map(columns).transpose().map_err(|_| RowError::Malformed("record"))?;
    Locked::found(row)
}

/// Ends the session of a transaction that cannot be ended any more.
pub(crate) async fn terminate(store: &Inner, locked: Locked) {
    let parameters: [Parameter<'_>; 2] = [&locked.backend, &locked.transaction];
    let terminating = async {
        // The connections that are broken are found to be that by who uses them.
        while let Ok(mut held) = store.connection().await {
            match held.query(&store.sql.terminate, &parameters).await {
                Err(failure) if failure.ends_connection() => sleep(PAUSE).await,
                _ => break,
            }
        }
    };
    // If this fails, too, the server notices by itself, at the latest when that statement ends.
    let _ = timeout(ROLLBACK_TIMEOUT, terminating).await;
}

/// Releases the key in the background: for certain nothing has happened.
pub(crate) fn give_back(reservation: Reservation) {
    // Decided by the call; unpolled, it goes on in the background.
    drop(reservation.release());
}

pub(crate) fn unknown(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, Effect::Unknown, Operation::Complete)
}
