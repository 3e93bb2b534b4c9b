//! [`StepJob`]: a caller's effect and its completion, on their way through the writer.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use idem_core::store::{Completion, OwnerToken, Span, State, Timestamp, transition};
use idem_core::{Answer, CompleteOutcome, Effect, Key, Operation, StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::authorizer::{SAVEPOINT, restrict, unrestrict};
use super::outcome::TransactionOutcome;
use crate::error::{Cause, Failure};
use crate::record::table::{self, Found};
use crate::writer::job::{Job, fails_transaction};

/// How a step ended.
pub(super) enum StepEnd<T, E> {
    Returned(TransactionOutcome<T, E>),
    Panicked(Box<dyn Any + Send>),
}

impl<T, E> StepEnd<T, E> {
    fn is_rolled_back(&self) -> bool {
        matches!(self, Self::Panicked(_) | Self::Returned(TransactionOutcome::RolledBack(_)))
    }
}

/// The transaction of a step failed.
pub(super) struct StepFailure<T, E> {
    pub(super) error: StoreError,
    /// How the step ended, if the error's effect is unknown and the transaction was committed after all.
    pub(super) if_committed: Option<StepEnd<T, E>>,
}

pub(super) type StepResult<T, E> = Result<StepEnd<T, E>, StepFailure<T, E>>;

/// What the completion of a step needs besides its answer.
pub(super) struct StepOwner {
    pub(super) key: Key,
    pub(super) token: OwnerToken,
    pub(super) retention: Span,
    pub(super) max_answer_bytes: usize,
}

/// A step on its way through the writer. The step itself runs at most once.
pub(super) struct StepJob<T, E, F> {
    owner: StepOwner,
    /// Taken when it runs.
    step: Option<F>,
    outcome: Option<Result<StepEnd<T, E>, StoreError>>,
    /// Why the transaction that the step ran in was rolled back.
    rollback_error: Option<StoreError>,
    /// How the step ended, if it had failed and its effect was rolled back before its transaction was.
    rolled_back: Option<StepEnd<T, E>>,
    reply: oneshot::Sender<StepResult<T, E>>,
    since: Instant,
}

impl<T, E, F> StepJob<T, E, F>
where
    F: FnOnce(&Connection) -> Result<(T, Answer), E>,
{
    /// The job, and the receiver of its answer.
    pub(super) fn new(owner: StepOwner, step: F) -> (Self, oneshot::Receiver<StepResult<T, E>>) {
        let (reply, answer) = oneshot::channel();
        let job = Self {
            owner,
            step: Some(step),
            outcome: None,
            rollback_error: None,
            rolled_back: None,
            reply,
            since: Instant::now(),
        };
        (job, answer)
    }

    fn run_in_savepoint(
        &mut self,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<StepEnd<T, E>, Failure> {
        if let Some(end) = self.rolled_back.take() {
            return Ok(end);
        }
        let found = table::find(connection, &self.owner.key, now)?;
        let record = found.as_ref().map(|found| &found.record).filter(|record| !record.is_expired(now));
        match record.filter(|record| record.owner == self.owner.token).map(|record| &record.state) {
            Some(State::InFlight { .. }) => {}
            Some(State::Completed { .. }) => {
                return Ok(StepEnd::Returned(TransactionOutcome::AlreadyCompleted));
            }
            Some(State::Released) | None => return Ok(StepEnd::Returned(TransactionOutcome::Lost)),
        }
        let Some(step) = self.step.take() else {
            return Err(Failure::Store(self.rollback_error.take().unwrap_or_else(|| {
                StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Complete)
            })));
        };

        connection.execute_batch(&format!("SAVEPOINT {SAVEPOINT}"))?;
        restrict(connection)?;
        let result = panic::catch_unwind(AssertUnwindSafe(|| step(connection)));
        unrestrict(connection)?;
        let failed = match result {
            Ok(Ok((value, answer))) => return self.complete(connection, found.as_ref(), value, answer, now),
            Ok(Err(error)) => StepEnd::Returned(TransactionOutcome::RolledBack(error)),
            Err(panic) => StepEnd::Panicked(panic),
        };
        if connection.is_autocommit() {
            self.rolled_back = Some(failed);
            return Err(Cause::TransactionEnded.into());
        }
        rollback_to_savepoint(connection)?;
        Ok(failed)
    }

    /// Writes the completion next to the effect.
    fn complete(
        &self,
        connection: &Connection,
        found: Option<&Found>,
        value: T,
        answer: Answer,
        now: Timestamp,
    ) -> Result<StepEnd<T, E>, Failure> {
        if connection.is_autocommit() {
            return Err(Cause::TransactionEnded.into());
        }
        let completion = Completion::new(answer, self.owner.retention);
        if let Err(error) = completion.check(self.owner.max_answer_bytes) {
            rollback_to_savepoint(connection)?;
            return Err(error.into());
        }
        let record = found.map(|found| &found.record);
        let (outcome, change) = transition::complete(record, self.owner.token, completion, now);
        debug_assert_eq!(outcome, CompleteOutcome::Completed, "the record was checked before the step ran");
        table::write(connection, &self.owner.key, found, change.as_ref())?;
        connection.execute_batch(&format!("RELEASE {SAVEPOINT}"))?;
        Ok(StepEnd::Returned(TransactionOutcome::Completed(value)))
    }
}

impl<T, E, F> Job for StepJob<T, E, F>
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
            // Whichever statement failed: the effect must not stay without its completion.
            Err(failure @ Failure::Sqlite(_)) => return Err(failure),
            Err(failure) if fails_transaction(&failure, connection) => return Err(failure),
            result => result.map_err(|failure| failure.into_store_error(Operation::Complete)),
        });
        Ok(())
    }

    fn rolled_back(&mut self, error: StoreError) {
        self.rollback_error = Some(error);
        let end = self.outcome.take().and_then(Result::ok);
        if let Some(end) = end.filter(StepEnd::is_rolled_back) {
            self.rolled_back = Some(end);
        }
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A caller that has gone does not need it.
            let _ = self.reply.send(outcome.map_err(|error| StepFailure { error, if_committed: None }));
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let Self { rolled_back, outcome, reply, .. } = *self;
        let end = rolled_back.or_else(|| outcome.and_then(Result::ok));
        let _ = reply.send(match end {
            // A failed step has had no effect, whether or not its transaction was committed.
            Some(end) if end.is_rolled_back() => Ok(end),
            if_committed => Err(StepFailure { error, if_committed }),
        });
    }
}

fn rollback_to_savepoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("ROLLBACK TO {SAVEPOINT}; RELEASE {SAVEPOINT}"))
}
