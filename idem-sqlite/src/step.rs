//! [`Step`]: the caller's effect and its completion, on their way through the writer.

use idem_core::store::Span;
use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use idem_core::store::{Completion, OwnerToken, State, Timestamp, transition};
use idem_core::{Answer, CompleteOutcome, Effect, Key, Operation, StoreError, StoreErrorKind};
use rusqlite::Connection;
use rusqlite::hooks::{Action, AuthAction, AuthContext, Authorization};
use tokio::sync::oneshot;

use crate::Transacted;
use crate::error::{Cause, Failure};
use crate::job::{Job, undoes_all};
use crate::store::check_answer;
use crate::table::{self, Found};

/// The savepoint that a step runs in. Nobody else's has this name.
const SAVEPOINT: &str = "idem_step";
/// What the names of the store's own tables begin with.
const TABLE_PREFIX: &str = "idem_";

/// What came of a step.
pub(crate) enum Ran<T, E> {
    Ended(Transacted<T, E>),
    Panicked(Box<dyn Any + Send>),
}

impl<T, E> Ran<T, E> {
    fn is_rolled_back(&self) -> bool {
        matches!(self, Self::Panicked(_) | Self::Ended(Transacted::RolledBack(_)))
    }
}

/// The transaction of a step failed.
pub(crate) struct Failed<T, E> {
    pub(crate) error: StoreError,
    /// What came of the step, if the transaction was committed all the same.
    pub(crate) if_committed: Option<Ran<T, E>>,
}

pub(crate) type Reply<T, E> = Result<Ran<T, E>, Failed<T, E>>;

/// A step on its way through the writer. It can be run once.
pub(crate) struct Step<T, E, F> {
    max_answer_bytes: usize,
    key: Key,
    owner: OwnerToken,
    retention: Span,
    /// Taken when it runs.
    effect: Option<F>,
    outcome: Option<Result<Ran<T, E>, StoreError>>,
    /// Why the transaction that it ran in was undone.
    undone: Option<StoreError>,
    /// What came of an effect that was rolled back already, when the transaction was undone.
    rolled_back: Option<Ran<T, E>>,
    reply: oneshot::Sender<Reply<T, E>>,
    since: Instant,
}

impl<T, E, F> Step<T, E, F>
where
    F: FnOnce(&Connection) -> Result<(T, Answer), E>,
{
    /// The job, and where its answer will be.
    pub(crate) fn new(
        key: Key,
        owner: OwnerToken,
        retention: Span,
        effect: F,
        max_answer_bytes: usize,
    ) -> (Self, oneshot::Receiver<Reply<T, E>>) {
        let (reply, answer) = oneshot::channel();
        let (effect, since) = (Some(effect), Instant::now());
        let (outcome, undone, rolled_back) = (None, None, None);
        let job = Self {
            max_answer_bytes,
            key,
            owner,
            retention,
            effect,
            outcome,
            undone,
            rolled_back,
            reply,
            since,
        };
        (job, answer)
    }

    fn run_in_savepoint(&mut self, connection: &Connection, now: Timestamp) -> Result<Ran<T, E>, Failure> {
        if let Some(ran) = self.rolled_back.take() {
            return Ok(ran);
        }
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
            return Err(Failure::Store(self.undone.take().unwrap_or_else(|| {
                StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Complete)
            })));
        };

        connection.execute_batch(&format!("SAVEPOINT {SAVEPOINT}"))?;
        restrict(connection)?;
        let ran = panic::catch_unwind(AssertUnwindSafe(|| step(connection)));
        unrestrict(connection)?;
        let undone = match ran {
            Ok(Ok((value, answer))) => return self.complete(connection, found.as_ref(), value, answer, now),
            Ok(Err(error)) => Ran::Ended(Transacted::RolledBack(error)),
            Err(panic) => Ran::Panicked(panic),
        };
        if connection.is_autocommit() {
            self.rolled_back = Some(undone);
            return Err(Failure::Store(Cause::TransactionEnded.of(Operation::Complete)));
        }
        undo(connection)?;
        Ok(undone)
    }

    /// Writes the completion beside the effect.
    fn complete(
        &self,
        connection: &Connection,
        found: Option<&Found>,
        value: T,
        answer: Answer,
        now: Timestamp,
    ) -> Result<Ran<T, E>, Failure> {
        if connection.is_autocommit() {
            return Err(Failure::Store(Cause::TransactionEnded.of(Operation::Complete)));
        }
        if let Err(error) = check_answer(answer.len(), self.max_answer_bytes) {
            undo(connection)?;
            return Err(Failure::Store(error));
        }
        let completion = Completion::new(answer, self.retention);
        let record = found.map(|found| &found.record);
        let (outcome, change) = transition::complete(record, self.owner, completion, now);
        debug_assert_eq!(outcome, CompleteOutcome::Completed, "the record was checked before the step ran");
        table::write(connection, &self.key, found, change.as_ref())?;
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

    fn undone(&mut self, error: StoreError) {
        self.undone = Some(error);
        let ran = self.outcome.take().and_then(Result::ok);
        if let Some(ran) = ran.filter(|ran| ran.is_rolled_back()) {
            self.rolled_back = Some(ran);
        }
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Whoever has gone away has decided not to know.
            let _ = self.reply.send(outcome.map_err(|error| Failed { error, if_committed: None }));
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let Self { rolled_back, outcome, reply, .. } = *self;
        let ran = rolled_back.or_else(|| outcome.and_then(Result::ok));
        let _ = reply.send(match ran {
            // It has had no effect, whatever became of the transaction.
            Some(ran) if ran.is_rolled_back() => Ok(ran),
            if_committed => Err(Failed { error, if_committed }),
        });
    }
}

fn undo(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("ROLLBACK TO {SAVEPOINT}; RELEASE {SAVEPOINT}"))
}

/// What holds while a step runs.
fn restrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.authorizer(Some(only_statements))?;
    // A statement may undo the transaction (`OR ROLLBACK`), and a step that goes on after that would commit each of its
    // further statements. No commit in a step is ever one of ours: each becomes a rollback.
    connection.commit_hook(Some(|| true))
}

/// Ends that, and takes away what the step has installed itself.
fn unrestrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    connection.commit_hook(None::<fn() -> bool>)?;
    connection.rollback_hook(None::<fn()>)?;
    connection.update_hook(None::<fn(Action, &str, &str, i64)>)?;
    connection.progress_handler(0, None::<fn() -> bool>)
}

/// A step may do anything but decide about the transaction, which is not its own, and write the store's own tables.
fn only_statements(context: AuthContext<'_>) -> Authorization {
    let is_denied = match context.action {
        AuthAction::Transaction { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => true,
        // It only reads, and a full-text index asks for it when it is written.
        AuthAction::Pragma { pragma_name, .. } => !pragma_name.eq_ignore_ascii_case("data_version"),
        AuthAction::Savepoint { savepoint_name, .. } => savepoint_name.eq_ignore_ascii_case(SAVEPOINT),
        AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::CreateVtable { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::CreateTempTrigger { table_name, .. } => is_the_stores(table_name),
        AuthAction::CreateView { view_name } | AuthAction::CreateTempView { view_name } => {
            is_the_stores(view_name)
        }
        _ => false,
    };
    if is_denied { Authorization::Deny } else { Authorization::Allow }
}

fn is_the_stores(table: &str) -> bool {
    table.get(..TABLE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(TABLE_PREFIX))
}
