//! Transactional completion: an effect in the store's own file, committed together with its completion (promise P6).

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use idem_core::{
    Answer, CompleteOutcome, Completion, Effect, Key, Operation, OwnerToken, State, StoreError,
    StoreErrorKind, Timestamp, transition,
};
use rusqlite::Connection;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use tokio::sync::oneshot;

use crate::SqliteStore;
use crate::error::Failure;
use crate::job::{Job, undoes_all};
use crate::store::{answered, check_answer};
use crate::table;

/// The savepoint that a step runs in. Nobody else's has this name.
const SAVEPOINT: &str = "idem_step";

/// How a transactional completion ended.
#[must_use = "only `Completed` says that the effect is there"]
#[derive(Debug, PartialEq, Eq)]
pub enum Transacted<T, E> {
    /// The effect and the completion are committed, both.
    Completed(T),
    /// The step failed: its effect was rolled back, and the key is still its owner's.
    RolledBack(E),
    /// This owner had completed before; the step was not run.
    AlreadyCompleted,
    /// The key is no longer this owner's; the step was not run.
    Lost,
}

impl SqliteStore {
    /// Runs `step` and completes the key with its answer, in one transaction: after a crash at any instant either both
    /// have happened or neither.
    ///
    /// The step runs on the writing thread, and every other writer waits for it: it is for statements on the
    /// connection, not for computing or calling others. It gets the connection in the midst of a transaction, in a
    /// savepoint of its own. `COMMIT`, `ROLLBACK`, `BEGIN`, `ATTACH`, `DETACH` and `PRAGMA` fail there as not
    /// authorized. Its own tables stand in the same file beside the store's, whose names begin with `idem_`.
    ///
    /// - The owner in flight runs it, also when its lease is over but nobody took the key: nobody can, in the midst of
    ///   the transaction.
    /// - An error of the step rolls back what it did, and nothing else; a panic does the same and goes on in the caller.
    /// - An error of the store whose effect is unknown is resolved by sending again with the same token:
    ///   `AlreadyCompleted` says that it was committed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use idem_core::{Fingerprint, Key, OwnerToken, ReservationStore, Reserve, Response};
    /// use idem_sqlite::{SqliteStore, Transacted};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let url = format!("sqlite:{}", directory.path().join("shop.db").display());
    /// let store = SqliteStore::connect(&url).await?;
    /// let (key, owner) = (Key::new("payments", "42")?, OwnerToken::random());
    /// store.reserve(&key, Reserve::new(owner, Fingerprint::of(["100 EUR"]), Duration::from_secs(60))).await?;
    ///
    /// let day = Duration::from_secs(24 * 3600);
    /// let done = store.complete_with(&key, owner, day, |connection| {
    ///     connection.execute_batch("CREATE TABLE IF NOT EXISTS payment (cents INTEGER) STRICT")?;
    ///     connection.execute("INSERT INTO payment (cents) VALUES (?1)", [10_000])?;
    ///     Ok::<_, rusqlite::Error>((connection.last_insert_rowid(), Response::bytes("paid").into()))
    /// });
    /// assert_eq!(done.await?, Transacted::Completed(1));
    /// # Ok(())
    /// # }
    /// ```
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
        // Checked with an answer that is always short enough: its own is not known before it ran.
        Completion::new(Answer::NotKept, retention).check()?;
        let (reply, answer) = oneshot::channel();
        let job = Step {
            max_answer_bytes: self.max_answer_bytes(),
            key: key.clone(),
            owner,
            retention,
            effect: Some(step),
            outcome: None,
            reply,
            since: Instant::now(),
        };
        self.inner.writer.enqueue(Box::new(job));
        match answered(Operation::Complete, answer).await? {
            Ran::Ended(transacted) => Ok(transacted),
            Ran::Panicked(panic) => panic::resume_unwind(panic),
        }
    }
}

/// What came of a step.
enum Ran<T, E> {
    Ended(Transacted<T, E>),
    Panicked(Box<dyn Any + Send>),
}

/// A step on its way through the writer. It can be run once.
struct Step<T, E, F> {
    max_answer_bytes: usize,
    key: Key,
    owner: OwnerToken,
    retention: Duration,
    /// Taken when it runs.
    effect: Option<F>,
    outcome: Option<Result<Ran<T, E>, StoreError>>,
    reply: oneshot::Sender<Result<Ran<T, E>, StoreError>>,
    since: Instant,
}

impl<T, E, F> Step<T, E, F>
where
    F: FnOnce(&Connection) -> Result<(T, Answer), E>,
{
    fn run_in_savepoint(&mut self, connection: &Connection, now: Timestamp) -> Result<Ran<T, E>, Failure> {
        let found = table::find(connection, &self.key, now)?;
        let record = found.as_ref().map(|found| &found.record).filter(|record| !record.is_expired(now));
        match record {
            Some(record) if record.owner == self.owner => match record.state {
                State::InFlight { .. } => {}
                State::Completed { .. } => return Ok(Ran::Ended(Transacted::AlreadyCompleted)),
                State::Released => return Ok(Ran::Ended(Transacted::Lost)),
            },
            _ => return Ok(Ran::Ended(Transacted::Lost)),
        }
        let Some(step) = self.effect.take() else {
            // The transaction that it first ran in failed, for a reason of the disk or of another's step.
            let error = StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Complete);
            return Err(Failure::Store(error.with_source("the transaction had to be undone; run it again")));
        };

        connection.execute_batch(&format!("SAVEPOINT {SAVEPOINT}"))?;
        connection.authorizer(Some(only_statements))?;
        let ran = panic::catch_unwind(AssertUnwindSafe(|| step(connection)));
        connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
        let (value, answer) = match ran {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => {
                undo(connection)?;
                return Ok(Ran::Ended(Transacted::RolledBack(error)));
            }
            Err(panic) => {
                undo(connection)?;
                return Ok(Ran::Panicked(panic));
            }
        };
        if let Err(error) = check_answer(answer.len(), self.max_answer_bytes) {
            undo(connection)?;
            return Err(Failure::Store(error));
        }
        let completion = Completion::new(answer, self.retention);
        let (outcome, change) = transition::complete(record, self.owner, completion, now);
        debug_assert_eq!(outcome, CompleteOutcome::Completed, "the record was checked above");
        table::write(connection, &self.key, found.as_ref(), change.as_ref())?;
        connection.execute_batch(&format!("RELEASE {SAVEPOINT}"))?;
        Ok(Ran::Ended(Transacted::Completed(value)))
    }
}

impl<T, E, F> Job for Step<T, E, F>
where
    T: Send,
    E: Send,
    F: FnOnce(&Connection) -> Result<(T, Answer), E> + Send,
{
    fn operation(&self) -> Operation {
        Operation::Complete
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    fn run(&mut self, connection: &Connection, now: Timestamp) -> Result<(), Failure> {
        self.outcome = Some(match self.run_in_savepoint(connection, now) {
            Ok(ran) => Ok(ran),
            // Whatever the statement was that failed, the step's effect must not stay without its completion.
            Err(failure @ Failure::Sqlite(_)) => return Err(failure),
            Err(failure) if undoes_all(&failure, connection) => return Err(failure),
            Err(failure) => Err(failure.not_applied(Operation::Complete)),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

fn undo(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("ROLLBACK TO {SAVEPOINT}; RELEASE {SAVEPOINT}"))
}

/// A step may do anything but decide about the transaction, which is not its own.
fn only_statements(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Transaction { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Pragma { .. } => Authorization::Deny,
        AuthAction::Savepoint { savepoint_name, .. } if savepoint_name == SAVEPOINT => Authorization::Deny,
        _ => Authorization::Allow,
    }
}
