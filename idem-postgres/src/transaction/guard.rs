//! [`TransactionGuard`]: an open transaction together with the reservation that it completes, for both drivers.
//!
//! INV-1: a guard cannot be committed without its completion: only [`complete`](TransactionGuard::complete),
//! [`rollback`](TransactionGuard::rollback) and the drop end it. (The caller's SQL can; that is detected and reported.)
//! INV-2: a connection on which the end of the transaction was not confirmed never returns to the pool.

use std::fmt;
use std::sync::Arc;

use idem_core::store::Completion;
use idem_core::{Answer, Effect, Operation, Reservation, StoreError, StoreErrorKind, backend};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::commit_recovery::{recover_commit, release_in_background, settle, unknown};
use super::error::TransactionError;
use super::limits::idle_timeout;
use super::session::{LockedRecord, Session};
use crate::error::Cause;
use crate::record::EncodedCompletion;
use crate::store::{PausedHeartbeat, StoreInner};

/// A connection whose transaction the guard ends.
pub(super) trait OpenTransaction: Session + Sized + 'static {
    /// Commits. `None` if the server did not answer in time.
    fn commit(&mut self) -> impl Future<Output = Option<Result<(), StoreError>>> + Send;

    /// Rolls back, or gives the connection up, and says whether the session was alive to the end.
    ///
    /// A statement that its caller did not wait for may still be running and hold the record's lock, also on a server that
    /// has not noticed that its client is gone. Its session is then ended.
    fn roll_back(self, store: &StoreInner, locked: LockedRecord) -> impl Future<Output = bool> + Send;
}

/// Dropped, it rolls back and abandons the key.
pub(super) struct TransactionGuard<T: OpenTransaction> {
    /// `None` once one of its ends has taken it.
    parts: Option<Parts<T>>,
    runtime: Handle,
}

struct Parts<T> {
    connection: T,
    locked: LockedRecord,
    reservation: Reservation,
    store: Arc<StoreInner>,
    paused_heartbeat: PausedHeartbeat,
}

impl<T: OpenTransaction> TransactionGuard<T> {
    /// The guard of a transaction that was begun. If the store failed to begin it, nothing has happened, and the key is
    /// released.
    pub(super) fn new(
        store: Arc<StoreInner>,
        reservation: Reservation,
        begun: Result<(T, LockedRecord), TransactionError>,
    ) -> Result<Self, TransactionError> {
        match begun {
            Ok((connection, locked)) => {
                let paused_heartbeat =
                    store.paused_heartbeats.pause(reservation.key(), backend::owner(&reservation));
                let parts = Parts { connection, locked, reservation, store, paused_heartbeat };
                Ok(Self { parts: Some(parts), runtime: Handle::current() })
            }
            Err(error) => {
                if let TransactionError::Store(_) = &error {
                    release_in_background(reservation);
                }
                Err(error)
            }
        }
    }

    pub(super) fn reservation(&self) -> &Reservation {
        &self.parts().reservation
    }

    pub(super) fn connection(&self) -> &T {
        &self.parts().connection
    }

    #[cfg(feature = "sqlx")]
    pub(super) fn connection_mut(&mut self) -> &mut T {
        // As in `parts`.
        let Some(parts) = &mut self.parts else { unreachable!("only the ends of the guard take it") };
        &mut parts.connection
    }

    /// Completes in a task of its own: the call starts it, and it continues when the future is dropped, even unpolled.
    pub(super) fn complete(
        mut self,
        answer: Answer,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send + use<T> {
        let completing = self.parts.take().map(|parts| self.runtime.spawn(parts.complete(answer)));
        async move {
            match completing {
                Some(completing) => match completing.await {
                    Ok(result) => result,
                    // The runtime is shutting down.
                    Err(error) => Err(unknown(StoreErrorKind::Unavailable).with_source(error).into()),
                },
                None => Err(TransactionError::Ended),
            }
        }
    }

    pub(super) async fn rollback(mut self) -> Reservation {
        // Only the ends of the guard take its parts, and each of them consumes the guard.
        let Some(parts) = self.parts.take() else { unreachable!("a transaction ends once") };
        let Parts { connection, locked, reservation, store, paused_heartbeat } = parts;
        // In a task of its own, so that it runs to its end when the caller's future is dropped.
        let rolled_back = self.runtime.spawn(async move {
            connection.roll_back(&store, locked).await;
            drop(paused_heartbeat);
        });
        let _ = rolled_back.await;
        reservation
    }

    fn parts(&self) -> &Parts<T> {
        // Only the ends of the guard take its parts, and each of them consumes the guard.
        let Some(parts) = &self.parts else { unreachable!("only the ends of the guard take it") };
        parts
    }
}

impl<T: OpenTransaction> Drop for TransactionGuard<T> {
    fn drop(&mut self) {
        let Some(Parts { connection, locked, reservation, store, paused_heartbeat }) = self.parts.take()
        else {
            return;
        };
        self.runtime.spawn(async move {
            connection.roll_back(&store, locked).await;
            drop(paused_heartbeat);
            // Not before the rollback: abandoning the key would wait for the lock.
            drop(reservation);
        });
    }
}

impl<T: OpenTransaction> fmt::Debug for TransactionGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("reservation", &self.parts.as_ref().map(|parts| &parts.reservation))
            .finish_non_exhaustive()
    }
}

impl<T: OpenTransaction> Parts<T> {
    async fn complete(mut self, answer: Answer) -> Result<(), TransactionError> {
        match self.write_and_commit(&answer).await {
            Ok(()) => {
                drop(self.paused_heartbeat);
                backend::mark_committed(self.reservation, &answer);
                Ok(())
            }
            Err(error) => {
                let is_same_server = self.connection.roll_back(&self.store, self.locked).await;
                drop(self.paused_heartbeat);
                Err(settle(&self.store, self.locked, is_same_server, self.reservation, error).await)
            }
        }
    }

    async fn write_and_commit(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        // The completion is the last statement, and waits for all statements that were sent before it.
        match timeout(idle_timeout(&self.store), self.write(answer)).await {
            Ok(written) => written?,
            Err(_elapsed) => return Err(Cause::StatementOpen.into_store_error(Operation::Complete).into()),
        }
        let error = match self.connection.commit().await {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => error,
            None => unknown(StoreErrorKind::Timeout),
        };
        match error.effect {
            Effect::NotApplied => Err(error.into()),
            Effect::Unknown => recover_commit(&self.store, &self.reservation, self.locked, error).await,
        }
    }

    async fn write(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        let completion = Completion::new(answer.clone(), backend::retention(&self.reservation));
        completion.check(self.store.options.max_answer_bytes)?;
        let (key, owner) = (self.reservation.key(), backend::owner(&self.reservation));
        let completion = EncodedCompletion::new(key, owner, &completion, Some(self.locked.transaction));
        let sql = &self.store.sql;
        if self.connection.complete(sql, &completion).await? {
            return Ok(());
        }
        // In the transaction of the guard, the reason is that the record has expired.
        let current = self.connection.current_transaction(sql).await?;
        let is_own = current.number == Some(self.locked.transaction);
        Err(if is_own { TransactionError::Lost } else { TransactionError::Ended })
    }
}
