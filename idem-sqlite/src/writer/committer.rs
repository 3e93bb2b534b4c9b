//! [`Committer`]: runs jobs in transactions on the connection that writes.
//!
//! INV-1: no caller gets an answer before the commit of its transaction has returned.
//! INV-2: if a commit's outcome is unknown, so is the outcome of every job in it, and its connection is closed.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use idem_core::{Effect, Operation, StoreError};
use rusqlite::{Connection, ErrorCode};

use crate::Clock;
use crate::error::{Cause, Failure};
use crate::file::database::DatabaseFile;
use crate::sync::lock;
use crate::writer::inline_commit::InlineCommit;
use crate::writer::job::Job;

pub(crate) type Jobs = Vec<Box<dyn Job>>;

pub(crate) struct Committer {
    pub(crate) file: Arc<DatabaseFile>,
    pub(crate) inline_commit: Mutex<InlineCommit>,
}

impl Committer {
    pub(crate) fn new(file: Arc<DatabaseFile>) -> Self {
        Self { file, inline_commit: Mutex::new(InlineCommit::new()) }
    }

    /// Runs the jobs in one transaction. If that fails because of one of them, runs each in its own.
    pub(crate) fn commit(&self, connection: &mut Option<Connection>, jobs: Jobs) {
        let busy_timeout = Some(self.file.options.busy_timeout);
        let again = self.attempt(connection, self.discard_late(jobs), busy_timeout);
        for job in again {
            // The jobs before it may have taken long.
            self.attempt(connection, self.discard_late(vec![job]), busy_timeout);
        }
    }

    /// Runs the job now. Returns it if another process is writing.
    pub(crate) fn try_commit(
        &self,
        connection: &mut Option<Connection>,
        job: Box<dyn Job>,
    ) -> Option<Box<dyn Job>> {
        self.attempt(connection, vec![job], None).pop()
    }

    /// Drops the jobs that no caller waits for, and fails those that waited too long. Returns the others.
    fn discard_late(&self, jobs: Jobs) -> Jobs {
        let mut wanted = Vec::with_capacity(jobs.len());
        for job in jobs.into_iter().filter(|job| job.is_wanted()) {
            if job.waited() > self.file.options.queue_timeout {
                fail(job, &Cause::QueueTimeout.into());
            } else {
                wanted.push(job);
            }
        }
        wanted
    }

    /// One transaction. Returns the jobs that have to run again; every other job gets its answer here. Without a
    /// `busy_timeout` it does not wait for another process that is writing, and returns the jobs.
    fn attempt(&self, slot: &mut Option<Connection>, mut jobs: Jobs, busy_timeout: Option<Duration>) -> Jobs {
        if jobs.is_empty() {
            return jobs;
        }
        let begun = Instant::now();
        let connection = match self.connection(slot) {
            Ok(connection) => connection,
            Err(failure) => {
                fail_all(jobs, &failure, Effect::NotApplied);
                return Vec::new();
            }
        };
        let (clock, wait) = (&self.file.options.clock, busy_timeout.unwrap_or_default());
        let error = match transaction(connection, &mut jobs, clock, wait) {
            Ok(()) => {
                lock(&self.inline_commit).record(begun.elapsed());
                for job in jobs {
                    job.answer();
                }
                return Vec::new();
            }
            Err(error) => error,
        };
        let is_rolled_back = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
        let (failure, effect, culprit) = match error {
            TransactionFailure::Begin(failure) if failure.is_busy() && busy_timeout.is_none() => return jobs,
            TransactionFailure::Begin(failure) => (failure, Effect::NotApplied, None),
            TransactionFailure::Job { index, failure } => {
                (failure, Effect::NotApplied, Some(Culprit::Job(index)))
            }
            TransactionFailure::Commit(error) if is_rolled_back && wrote_nothing(&error) => {
                (error.into(), Effect::NotApplied, Some(Culprit::AnyJob))
            }
            TransactionFailure::Commit(error) => (error.into(), Effect::Unknown, None),
        };
        // INV-2. Closing the connection also rolls back a transaction that `ROLLBACK` could not. A connection that cannot
        // begin, for a reason of its own, could not begin the next time either.
        if !is_rolled_back || effect == Effect::Unknown || (culprit.is_none() && !failure.is_busy()) {
            *slot = None;
        }
        match culprit {
            // Some jobs may succeed alone: on a full disk, for example, a refusal needs no space.
            Some(culprit) if jobs.len() > 1 => {
                for (index, job) in jobs.iter_mut().enumerate() {
                    let operation = job.operation();
                    let mut error = failure.to_store_error(effect, operation);
                    if culprit != Culprit::Job(index) {
                        error = rolled_back_with_others(&error, operation);
                    }
                    job.rolled_back(error);
                }
                jobs
            }
            _ => {
                fail_all(jobs, &failure, effect);
                Vec::new()
            }
        }
    }

    /// The connection in the slot. Opens it again after a failure has closed it.
    fn connection<'a>(&self, slot: &'a mut Option<Connection>) -> Result<&'a mut Connection, Failure> {
        self.file.check_identity()?;
        match slot {
            Some(connection) => Ok(connection),
            None => Ok(slot.insert(self.file.open()?)),
        }
    }
}

/// Fails the job without effect.
pub(crate) fn fail(job: Box<dyn Job>, failure: &Failure) {
    fail_all(vec![job], failure, Effect::NotApplied);
}

fn fail_all(jobs: Jobs, failure: &Failure, effect: Effect) {
    for job in jobs {
        let operation = job.operation();
        job.fail(failure.to_store_error(effect, operation));
    }
}

/// Where a transaction failed.
enum TransactionFailure {
    Begin(Failure),
    Job { index: usize, failure: Failure },
    Commit(rusqlite::Error),
}

/// The job that made a transaction fail. Without it, the others may succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Culprit {
    Job(usize),
    /// It is not known which.
    AnyJob,
}

fn transaction(
    connection: &Connection,
    jobs: &mut Jobs,
    clock: &Clock,
    busy_timeout: Duration,
) -> Result<(), TransactionFailure> {
    let execute = |sql| connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    connection
        .busy_timeout(busy_timeout)
        .and_then(|()| execute("BEGIN IMMEDIATE"))
        .map_err(|error| TransactionFailure::Begin(error.into()))?;
    for (index, job) in jobs.iter_mut().enumerate() {
        let failed = |failure| TransactionFailure::Job { index, failure };
        // The time is read while the write lock is held, so that it is never older than what other writers wrote.
        job.run(connection, clock.now()).map_err(failed)?;
        if connection.is_autocommit() {
            return Err(failed(Cause::TransactionEnded.into()));
        }
    }
    execute("COMMIT").map(|_| ()).map_err(TransactionFailure::Commit)
}

/// Whether a commit failed before it wrote anything: the disk is full, a constraint is violated, or another process
/// holds a lock. After any other failure the outcome is unknown.
fn wrote_nothing(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull};
    let code = error.sqlite_error_code();
    matches!(code, Some(ConstraintViolation | DatabaseBusy | DatabaseLocked | DiskFull))
}

/// The error of a job that cannot run again and did not cause the failure itself, as far as is known.
fn rolled_back_with_others(error: &StoreError, operation: Operation) -> StoreError {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    Cause::RolledBackWithOthers { why }.into_store_error(operation)
}
