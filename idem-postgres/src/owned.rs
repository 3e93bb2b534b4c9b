//! [`Owned`]: an open transaction together with the reservation that it completes, whatever the driver. What it promises stands
//! at [`Transaction`](crate::Transaction).

use idem_core::backend;
use std::fmt;
use std::sync::Arc;

use idem_core::store::Completion;
use idem_core::{Answer, Effect, Operation, Reservation, StoreError, StoreErrorKind};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::TransactionError;
use crate::ending::{give_back, longest_idle, resolve, settle, unknown};
use crate::error::Cause;
use crate::guards::Guard;
use crate::lock::Locked;
use crate::session::Session;
use crate::store::{Inner, WrittenCompletion, check_answer};

/// A connection whose transaction is the store's to end.
pub(crate) trait Open: Session + Sized + 'static {
    /// Commits. `None`: there was no answer in time.
    fn commit(&mut self) -> impl Future<Output = Option<Result<(), StoreError>>> + Send;

    /// Rolls back, or gives the connection up, and says whether the session went on to the end. A statement that its caller
    /// did not wait for may still be running and hold the record's lock, also on a server that has not noticed that its
    /// client is gone: its session is ended then.
    fn roll_back(self, store: &Inner, locked: Locked) -> impl Future<Output = bool> + Send;
}

/// The guard. Dropped, it rolls back, and the key is abandoned.
pub(crate) struct Owned<C: Open> {
    /// Taken by the end of it.
    held: Option<Held<C>>,
    runtime: Handle,
}

struct Held<C> {
    connection: C,
    locked: Locked,
    reservation: Reservation,
    store: Arc<Inner>,
    /// While this is there, the heartbeat pauses.
    guard: Guard,
}

impl<C: Open> Owned<C> {
    /// What was begun for this reservation. If the store failed, nothing has happened, and the key is released.
    pub(crate) fn begun(
        store: Arc<Inner>,
        reservation: Reservation,
        begun: Result<(C, Locked), TransactionError>,
    ) -> Result<Self, TransactionError> {
        match begun {
            Ok((connection, locked)) => {
                let guard = store.guards.hold(reservation.key(), backend::owner(&reservation));
                let held = Held { connection, locked, reservation, store, guard };
                Ok(Self { held: Some(held), runtime: Handle::current() })
            }
            Err(error) => {
                if let TransactionError::Store(_) = &error {
                    give_back(reservation);
                }
                Err(error)
            }
        }
    }

    pub(crate) fn reservation(&self) -> &Reservation {
        &self.held().reservation
    }

    pub(crate) fn connection(&self) -> &C {
        &self.held().connection
    }

    #[cfg(feature = "sqlx")]
    pub(crate) fn connection_mut(&mut self) -> &mut C {
        // As in `held`.
        let Some(held) = &mut self.held else {
            unreachable!("it is there until it is moved into one of its ends")
        };
        &mut held.connection
    }

    /// Completes, in a task of its own: from the call on it is decided, also if the future is dropped unpolled.
    pub(crate) fn complete(
        mut self,
        answer: Answer,
    ) -> impl Future<Output = Result<(), TransactionError>> + Send + use<C> {
        let completing = self.held.take().map(|held| self.runtime.spawn(held.complete(answer)));
        async move {
            match completing {
                Some(completing) => match completing.await {
                    Ok(result) => result,
                    // The runtime is shutting down.
                    Err(gone) => Err(unknown(StoreErrorKind::Unavailable).with_source(gone).into()),
                },
                None => Err(TransactionError::Ended),
            }
        }
    }

    pub(crate) async fn rollback(mut self) -> Reservation {
        // It is there until one of the two ends takes it, and each of them takes the guard itself.
        let Some(held) = self.held.take() else { unreachable!("a transaction ends once") };
        let Held { connection, locked, reservation, store, guard } = held;
        // To its end, whatever becomes of the caller: it goes on in a task of its own.
        let rolled_back = self.runtime.spawn(async move {
            connection.roll_back(&store, locked).await;
            drop(guard);
        });
        let _ = rolled_back.await;
        reservation
    }

    fn held(&self) -> &Held<C> {
        let Some(held) = &self.held else {
            unreachable!("it is there until it is moved into one of its ends")
        };
        held
    }
}

impl<C: Open> Drop for Owned<C> {
    fn drop(&mut self) {
        let Some(Held { connection, locked, reservation, store, guard }) = self.held.take() else { return };
        self.runtime.spawn(async move {
            connection.roll_back(&store, locked).await;
            drop(guard);
            // Only now: its abandoning would have waited for the lock.
            drop(reservation);
        });
    }
}

impl<C: Open> fmt::Debug for Owned<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("reservation", &self.held.as_ref().map(|held| &held.reservation))
            .finish_non_exhaustive()
    }
}

impl<C: Open> Held<C> {
    async fn complete(mut self, answer: Answer) -> Result<(), TransactionError> {
        match self.write_and_commit(&answer).await {
            Ok(()) => {
                drop(self.guard);
                backend::mark_committed(self.reservation, &answer);
                Ok(())
            }
            Err(error) => {
                let is_same_server = self.connection.roll_back(&self.store, self.locked).await;
                drop(self.guard);
                Err(settle(&self.store, self.locked, is_same_server, self.reservation, error).await)
            }
        }
    }

    /// The completion is the last statement of the transaction, and waits for all that were sent before it.
    async fn write_and_commit(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        let within = longest_idle(&self.store);
        match timeout(within, self.write(answer)).await {
            Ok(written) => written?,
            Err(_elapsed) => return Err(Cause::StatementOpen.of(Operation::Complete).into()),
        }
        let error = match self.connection.commit().await {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => error,
            None => unknown(StoreErrorKind::Timeout),
        };
        match error.effect {
            Effect::NotApplied => Err(error.into()),
            Effect::Unknown => resolve(&self.store, &self.reservation, self.locked, error).await,
        }
    }

    async fn write(&mut self, answer: &Answer) -> Result<(), TransactionError> {
        let completion = Completion::new(answer.clone(), backend::retention(&self.reservation));
        check_answer(answer, self.store.options.max_answer_bytes)?;
        let (key, owner) = (self.reservation.key(), backend::owner(&self.reservation));
        let written = WrittenCompletion::new(key, owner, &completion, Some(self.locked.transaction));
        let sql = &self.store.sql;
        if self.connection.complete(sql, &written).await? {
            return Ok(());
        }
        let (transaction, _) = self.connection.transaction(sql).await?;
        // It is ours, so that the record is not: it has expired meanwhile.
        let is_ours = transaction == Some(self.locked.transaction);
        Err(if is_ours { TransactionError::Lost } else { TransactionError::Ended })
    }
}
