//! Transactional completion: an effect in the store's own file, committed together with its completion (promise P6).

use idem_core::backend;
use idem_core::store::Span;
use std::panic;
use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Answer, Effect, Key, Operation, RenewOutcome, Reservation, StoreError, StoreErrorKind};
use rusqlite::Connection;

use crate::SqliteStore;
use crate::step::{Failed, Ran, Step};
use crate::store::writer_gone;

/// How a transactional completion ended.
#[must_use = "only `Completed` says that the effect is there"]
#[derive(Debug, PartialEq, Eq)]
pub enum Transacted<T, E> {
    /// The effect and the completion are committed, both.
    Completed(T),
    /// The step failed: its effect was rolled back.
    RolledBack(E),
    /// This owner had completed before; the step was not run.
    AlreadyCompleted,
    /// The key is no longer this owner's; the step was not run, or its effect was rolled back.
    Lost,
}

impl SqliteStore {
    /// Runs `step` and completes the reserved key with its answer, in one transaction: after a crash at any instant
    /// either both have happened or neither. The reservation has to be of an engine on this very store.
    ///
    /// The step runs on the writing thread, and every other writer waits for it: it is for statements on the
    /// connection, not for computing or calling others. It gets the connection in the midst of a transaction, in a
    /// savepoint of its own. Its own tables stand in the same file beside the store's, whose names begin with `idem_`
    /// and which it cannot write. `COMMIT`, `ROLLBACK`, `BEGIN`, `ATTACH`, `DETACH` and `PRAGMA` fail there as not
    /// authorized; after a statement that undoes the transaction (`OR ROLLBACK`), every write fails. Hooks that it sets on
    /// the connection end with it. A step that asks its own store to write is refused: only this thread could do that.
    ///
    /// - The owner in flight runs it, also when its lease is over but nobody took the key: nobody can, in the midst of
    ///   the transaction. A zombie is told [`Lost`](Transacted::Lost), and its step does not run.
    /// - An error of the step rolls back what it did, and nothing else, and the key is *released*: the next caller runs
    ///   at once. So is a transaction that the store could not commit.
    /// - A panic does the same, abandons the key and goes on in the caller.
    /// - A commit whose outcome is unknown is resolved by the reservation's token. An error whose effect is
    ///   [`Unknown`](Effect::Unknown) remains only if the store cannot be asked any more; the key is abandoned then,
    ///   which changes nothing if it was completed.
    /// - If the future is dropped, a step that still waits for its turn does not run, and one that runs is committed; the
    ///   key is abandoned, which changes nothing in that case.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_core::{Admission, Engine, Fingerprint, Key, StoredValue};
    /// use idem_sqlite::{SqliteStore, Transacted};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}", directory.path().join("shop.db").display());
    /// let store = SqliteStore::connect(&url).await?;
    /// let engine = Engine::builder(store.clone()).build()?;
    ///
    /// let (key, payload) = (Key::new("payments", "42")?, Fingerprint::from_parts(["100 EUR"]));
    /// if let Admission::Granted(reservation) = engine.reserve(&key, &payload).await? {
    ///     let paid = store.complete_reservation(reservation, |connection| {
    ///         connection.execute_batch("CREATE TABLE IF NOT EXISTS payment (cents INTEGER) STRICT")?;
    ///         connection.execute("INSERT INTO payment (cents) VALUES (?1)", [10_000])?;
    ///         Ok::<_, rusqlite::Error>((connection.last_insert_rowid(), StoredValue::bytes("paid").into()))
    ///     });
    ///     assert_eq!(paid.await?, Transacted::Completed(1));
    /// }
    /// let again = engine.reserve(&key, &payload).await?;
    /// assert!(matches!(again, Admission::Replayed(response) if response.body == "paid"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn complete_reservation<T, E, F>(
        &self,
        reservation: Reservation,
        step: F,
    ) -> Result<Transacted<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send + 'static,
    {
        let keeping_the_answer = |connection: &Connection| {
            let (value, answer) = step(connection)?;
            Ok(((value, answer.clone()), answer))
        };
        let (key, owner, retention) =
            (reservation.key().clone(), backend::owner(&reservation), backend::retention(&reservation));
        // Dropped on any other way out of here, the reservation is abandoned.
        let (value, answer) = match self.transact(&key, owner, retention, keeping_the_answer).await {
            Ok(Ran::Ended(Transacted::Completed(done))) => done,
            Ok(Ran::Ended(Transacted::RolledBack(error))) => {
                // The step's error is what its caller is owed, whatever the store says to the release; one that was
                // not acknowledged goes on in the background.
                let _ = reservation.release().await;
                return Ok(Transacted::RolledBack(error));
            }
            Ok(Ran::Ended(Transacted::AlreadyCompleted)) => return Ok(Transacted::AlreadyCompleted),
            Ok(Ran::Ended(Transacted::Lost)) => return Ok(Transacted::Lost),
            Ok(Ran::Panicked(panic)) => panic::resume_unwind(panic),
            Err(Failed { error, .. }) if error.effect == Effect::NotApplied => {
                let _ = reservation.release().await;
                return Err(error);
            }
            Err(Failed { mut error, if_committed }) => match (reservation.renew().await, if_committed) {
                (Ok(RenewOutcome::AlreadyCompleted), Some(Ran::Ended(Transacted::Completed(done)))) => done,
                (Ok(RenewOutcome::AlreadyCompleted), _) => return Ok(Transacted::AlreadyCompleted),
                (Ok(RenewOutcome::Lost), _) => return Ok(Transacted::Lost),
                (Ok(RenewOutcome::Renewed { .. }), _) => {
                    let _ = reservation.release().await;
                    error.effect = Effect::NotApplied;
                    return Err(error);
                }
                (Err(_), _) => return Err(error),
            },
        };
        backend::mark_committed(reservation, &answer);
        Ok(Transacted::Completed(value))
    }

    /// [`complete_reservation`](Self::complete_reservation) for those who hold a token and no engine.
    ///
    /// After an error of the step the key is still its owner's. An error of the store whose effect is
    /// [`Unknown`](Effect::Unknown) is resolved by sending again with the same token: `AlreadyCompleted` says that it
    /// was committed.
    pub async fn complete_with<T, E, F>(
        &self,
        key: &Key,
        owner: OwnerToken,
        retention: Duration,
        step: F,
    ) -> Result<Transacted<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send + 'static,
    {
        let retention = Span::new(retention).map_err(|invalid| {
            StoreError::new(StoreErrorKind::Misconfigured, Effect::NotApplied, Operation::Complete)
                .with_source(invalid)
        })?;
        match self.transact(key, owner, retention, step).await {
            Ok(Ran::Ended(transacted)) => Ok(transacted),
            Ok(Ran::Panicked(panic)) => panic::resume_unwind(panic),
            Err(failed) => Err(failed.error),
        }
    }

    async fn transact<T, E, F>(
        &self,
        key: &Key,
        owner: OwnerToken,
        retention: Span,
        step: F,
    ) -> Result<Ran<T, E>, Failed<T, E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send + 'static,
    {
        let failed = |error| Failed { error, if_committed: None };
        let (job, answer) = Step::new(key.clone(), owner, retention, step, self.max_answer_bytes());
        self.inner.writer.enqueue(Box::new(job));
        answer.await.unwrap_or_else(|_| Err(failed(writer_gone(Operation::Complete))))
    }
}
