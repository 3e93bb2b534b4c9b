//! [`Job`]: an operation on its way through the writer, and [`Task`], which is every operation of the trait.

use std::time::{Duration, Instant};

use idem_core::store::Timestamp;
use idem_core::{Operation, StoreError};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use crate::error::{Failure, code};

/// Something to be done in a transaction that it may share with others.
///
/// INV-1: nobody is answered before the transaction has ended.
pub(crate) trait Job: Send {
    fn operation(&self) -> Operation;

    /// Whether anybody still waits for it.
    fn is_wanted(&self) -> bool;

    /// How long ago it was handed in.
    fn waited(&self) -> Duration;

    /// Does its work and keeps the outcome. Called again if the transaction had to be undone. An error undoes the
    /// whole transaction; what concerns this job alone is an outcome.
    fn run(&mut self, connection: &Connection, now: Timestamp) -> Result<(), Failure>;

    /// The transaction that it ran in failed for this reason and was undone; it will be run again, in another one.
    fn undone(&mut self, _error: StoreError) {}

    /// The transaction is durable: tells the outcome.
    fn answer(self: Box<Self>);

    /// The transaction failed, and with it the job.
    fn fail(self: Box<Self>, error: StoreError);
}

/// A job that answers a caller, and can be run any number of times.
pub(crate) struct Task<T, S> {
    operation: Operation,
    step: S,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    since: Instant,
}

impl<T, S> Task<T, S>
where
    S: FnMut(&Connection, Timestamp) -> Result<T, Failure>,
{
    /// The job, and where its answer will be.
    pub(crate) fn new(operation: Operation, step: S) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (Self { operation, step, outcome: None, reply, since: Instant::now() }, answer)
    }
}

impl<T, S> Job for Task<T, S>
where
    T: Send,
    S: FnMut(&Connection, Timestamp) -> Result<T, Failure> + Send,
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
        self.outcome = Some(match (self.step)(connection, now) {
            Ok(outcome) => Ok(outcome),
            Err(failure) if undoes_all(&failure, connection) => return Err(failure),
            Err(failure) => Err(failure.not_applied(self.operation)),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Whoever has gone away has decided not to know.
            let _ = self.reply.send(outcome);
        }
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// Whether a failed statement concerns the whole transaction: SQLite has rolled it back, or the next one will hardly
/// fare better. Any other statement that failed has had no effect, and its job alone is told.
pub(crate) fn undoes_all(failure: &Failure, connection: &Connection) -> bool {
    let Failure::Sqlite(error) = failure else { return false };
    let of_the_disk = matches!(
        code(error),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory)
    );
    of_the_disk || connection.is_autocommit()
}
