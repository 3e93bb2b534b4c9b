//! [`Job`]: an operation on its way through the writer; and [`Task`], the job of every operation but a step.

use std::time::{Duration, Instant};

use idem_core::store::Timestamp;
use idem_core::{Operation, StoreError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::error::Failure;

/// Work for a transaction that several jobs can share.
///
/// INV-1: no caller gets an answer before the transaction has ended.
pub(crate) trait Job: Send {
    fn operation(&self) -> Operation;

    /// Whether a caller still waits for the answer.
    fn is_wanted(&self) -> bool;

    /// The time since the job was created.
    fn waited(&self) -> Duration;

    /// Does the work and keeps the outcome. It runs again if the transaction was rolled back. An error rolls back the
    /// whole transaction; a failure that concerns only this job is an outcome.
    fn run(&mut self, connection: &Connection, now: Timestamp) -> Result<(), Failure>;

    /// The transaction was rolled back because of this error. The job will run again in another one.
    fn rolled_back(&mut self, _error: StoreError) {}

    /// The transaction is committed: sends the outcome.
    fn answer(self: Box<Self>);

    /// The transaction failed, and the job with it.
    fn fail(self: Box<Self>, error: StoreError);
}

/// A job that can run any number of times.
pub(crate) struct Task<T, W> {
    operation: Operation,
    work: W,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    since: Instant,
}

impl<T, W> Task<T, W>
where
    W: FnMut(&Connection, Timestamp) -> Result<T, Failure>,
{
    /// The job, and the receiver of its answer.
    pub(crate) fn new(operation: Operation, work: W) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { operation, work, outcome: None, reply, since: Instant::now() }, answer)
    }
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnMut(&Connection, Timestamp) -> Result<T, Failure> + Send,
{
    fn operation(&self) -> Operation {
        self.operation
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn waited(&self) -> Duration {
        self.since.elapsed()
    }

    fn run(&mut self, connection: &Connection, now: Timestamp) -> Result<(), Failure> {
        self.outcome = Some(match (self.work)(connection, now) {
            Err(failure) if fails_transaction(&failure, connection) => return Err(failure),
            result => result.map_err(|failure| failure.into_store_error(self.operation)),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // A caller that has gone does not need it.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Whether the failure of a statement concerns the whole transaction: SQLite has rolled it back, or the next statement
/// would probably fail too. Any other statement that failed has had no effect, so only its own job fails.
pub(crate) fn fails_transaction(failure: &Failure, connection: &Connection) -> bool {
    let Failure::Sqlite(error) = failure else { return false };
    let concerns_all = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory)
    );
    concerns_all || connection.is_autocommit()
}
