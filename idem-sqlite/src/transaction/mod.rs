//! Transactional completion: an effect in the store's own file is committed together with its completion (promise P6).

mod authorizer;
mod outcome;
mod step;

use std::panic;
use std::time::Duration;

use idem_core::store::{OwnerToken, Span};
use idem_core::{
    Answer, Effect, Key, Operation, RenewOutcome, Reservation, StoreError, StoreErrorKind, backend,
};
use rusqlite::Connection;

use crate::SqliteStore;
use crate::error::Cause;
use step::{StepEnd, StepFailure, StepJob, StepOwner, StepResult};

pub use outcome::TransactionOutcome;

impl SqliteStore {
    /// Runs `step` and completes the reserved key with the step's answer, in one transaction: after a crash at any
    /// instant, both have happened or neither has.
    ///
    /// The reservation must come from an engine on this store. The application's tables are in the same file as the
    /// store's; names that begin with `idem_` belong to the store.
    ///
    /// # What a step can do
    ///
    /// A step runs on the writing thread, and all other writers wait for it. Use it for statements on the connection,
    /// not for computation or calls to other services. It runs in a savepoint of a transaction that it can share with
    /// other operations, so it cannot use `COMMIT`, `ROLLBACK`, `BEGIN`, `ATTACH`, `DETACH` or `PRAGMA`, and it cannot
    /// write the store's tables: these fail as not authorized. After a statement that rolls back the transaction
    /// (`OR ROLLBACK`), every write fails. Hooks that a step sets on the connection end with the step. A step that waits
    /// for a write of its own store gets an error, because only this thread could do that write.
    ///
    /// # How it ends
    ///
    /// - The step runs for the owner that is in flight, even if its lease is over, as long as no other owner took the key.
    ///   A zombie gets [`Lost`](TransactionOutcome::Lost), and its step does not run.
    /// - If the step returns an error, only its own effect is rolled back, and the key is *released*: the next caller
    ///   runs at once. The same happens if the store cannot commit the transaction.
    /// - If the step panics, its effect is rolled back, the key is abandoned, and the panic continues in the caller.
    /// - If the outcome of the commit is unknown, this method asks the store about the reservation's token. Only if the
    ///   store cannot answer does it return an error whose effect is [`Unknown`](Effect::Unknown). The key is then
    ///   abandoned, which changes nothing if it was completed.
    /// - If the future is dropped, a step that still waits for its turn does not run, and a step that is running is
    ///   committed. The key is abandoned, which changes nothing if it was completed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idem_core::{Admission, Engine, Fingerprint, Key, StoredValue};
    /// use idem_sqlite::{SqliteStore, TransactionOutcome};
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
    ///     assert_eq!(paid.await?, TransactionOutcome::Completed(1));
    /// }
    /// let again = engine.reserve(&key, &payload).await?;
    /// assert!(matches!(again, Admission::Replayed(value) if value.body == "paid"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn complete_reservation<T, E, F>(
        &self,
        reservation: Reservation,
        step: F,
    ) -> Result<TransactionOutcome<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send + 'static,
    {
        use TransactionOutcome::{AlreadyCompleted, Completed, Lost, RolledBack};

        let step_and_answer = |connection: &Connection| {
            let (value, answer) = step(connection)?;
            Ok(((value, answer.clone()), answer))
        };
        let (key, owner) = (reservation.key().clone(), backend::owner(&reservation));
        let retention = backend::retention(&reservation);
        // On every other way out of this function the reservation is dropped, and so abandoned.
        let (value, answer) = match self.transact(&key, owner, retention, step_and_answer).await {
            Ok(StepEnd::Returned(Completed(done))) => done,
            Ok(StepEnd::Returned(RolledBack(error))) => {
                // The caller gets the step's error, even if the release fails; a failed release continues in the
                // background.
                let _ = reservation.release().await;
                return Ok(RolledBack(error));
            }
            Ok(StepEnd::Returned(AlreadyCompleted)) => return Ok(AlreadyCompleted),
            Ok(StepEnd::Returned(Lost)) => return Ok(Lost),
            Ok(StepEnd::Panicked(panic)) => panic::resume_unwind(panic),
            Err(StepFailure { error, .. }) if error.effect == Effect::NotApplied => {
                let _ = reservation.release().await;
                return Err(error);
            }
            Err(StepFailure { mut error, if_committed }) => match (reservation.renew().await, if_committed) {
                (Ok(RenewOutcome::AlreadyCompleted), Some(StepEnd::Returned(Completed(done)))) => done,
                (Ok(RenewOutcome::AlreadyCompleted), _) => return Ok(AlreadyCompleted),
                (Ok(RenewOutcome::Lost), _) => return Ok(Lost),
                (Ok(RenewOutcome::Renewed { .. }), _) => {
                    let _ = reservation.release().await;
                    error.effect = Effect::NotApplied;
                    return Err(error);
                }
                (Err(_), _) => return Err(error),
            },
        };
        backend::mark_committed(reservation, &answer);
        Ok(Completed(value))
    }

    /// Does what [`complete_reservation`](Self::complete_reservation) does, for a caller that has an owner token but no
    /// engine.
    ///
    /// `retention` is how long the answer is kept. A retention that is not a valid [`Span`] fails as `Misconfigured`
    /// before the step runs.
    ///
    /// After an error of the step, the owner still has the key. After an error of the store whose effect is
    /// [`Unknown`](Effect::Unknown), call it again with the same token: `AlreadyCompleted` means that the first call was
    /// committed.
    pub async fn complete_with<T, E, F>(
        &self,
        key: &Key,
        owner: OwnerToken,
        retention: Duration,
        step: F,
    ) -> Result<TransactionOutcome<T, E>, StoreError>
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
            Ok(StepEnd::Returned(outcome)) => Ok(outcome),
            Ok(StepEnd::Panicked(panic)) => panic::resume_unwind(panic),
            Err(failure) => Err(failure.error),
        }
    }

    async fn transact<T, E, F>(
        &self,
        key: &Key,
        token: OwnerToken,
        retention: Span,
        step: F,
    ) -> StepResult<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send + 'static,
    {
        let max_answer_bytes = self.options().max_answer_bytes;
        let owner = StepOwner { key: key.clone(), token, retention, max_answer_bytes };
        let (job, answer) = StepJob::new(owner, step);
        self.writer().enqueue(Box::new(job));
        answer.await.unwrap_or_else(|_| {
            let error = Cause::Panicked.into_store_error(Operation::Complete);
            Err(StepFailure { error, if_committed: None })
        })
    }
}
