//! [`TransactionConnection`]: a connection while a transaction is open on it.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::{Client, Row};

use super::pool::{acquire, close, run};
use crate::error::{Cause, Failure};
use crate::options::Statements;
use crate::sql::{Parameter, Statement};

/// A connection with an open transaction. Only [`send_commit`](Self::send_commit) and [`send_rollback`](Self::send_rollback) return it to the
/// pool, when they succeed; dropped, it is closed (INV-1 of the module `pooled`).
pub(crate) struct TransactionConnection {
    /// `None` once the transaction has ended.
    object: Option<Object>,
    statements: Statements,
}

/// How a rollback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollback {
    /// The server confirmed it.
    Confirmed,
    /// The server did not confirm it, and may go on until the last statement ends.
    Unconfirmed,
    /// The transaction had ended before.
    AlreadyEnded,
}

impl TransactionConnection {
    pub(crate) async fn acquire(
        pool: &Pool,
        statements: Statements,
        pool_timeout: Duration,
    ) -> Result<Self, Failure> {
        Ok(Self { object: Some(acquire(pool, pool_timeout).await?), statements })
    }

    pub(crate) fn client(&self) -> &Client {
        // It is taken only by `send_commit` and `send_rollback`, whose callers own the guard that this client is borrowed from.
        let Some(object) = &self.object else { unreachable!("the transaction has ended") };
        object
    }

    /// Begins the transaction and runs its first statement, in one round trip.
    ///
    /// If `begin` can fail, the statement is sent only after it succeeded: otherwise the statement would run outside of any
    /// transaction (and see INV-2 of the module `pooled`).
    pub(crate) async fn begin(
        &self,
        (begin, can_fail): (&str, bool),
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let object = self.open()?;
        if can_fail {
            object.batch_execute(begin).await.map_err(Failure::Sent)?;
            return run(object, self.statements, statement, parameters).await;
        }
        // `biased` keeps the order of the requests on the connection. The first use of a prepared statement takes one more
        // round trip.
        let (opened, rows) = tokio::join!(biased;
            async { object.batch_execute(begin).await.map_err(Failure::Sent) },
            run(object, self.statements, statement, parameters),
        );
        opened?;
        rows
    }

    pub(crate) async fn query(
        &self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        run(self.open()?, self.statements, statement, parameters).await
    }

    /// Commits. `None` if the server did not answer in time.
    pub(crate) async fn send_commit(&mut self, timeout: Duration) -> Option<Result<(), Failure>> {
        match self.end("COMMIT", timeout).await {
            Ok(answer) => answer.map(|committed| committed.map_err(Failure::Sent)),
            Err(ended) => Some(Err(ended)),
        }
    }

    pub(crate) async fn send_rollback(&mut self, timeout: Duration) -> Rollback {
        match self.end("ROLLBACK", timeout).await {
            Ok(Some(Ok(()))) => Rollback::Confirmed,
            Ok(_) => Rollback::Unconfirmed,
            Err(_ended) => Rollback::AlreadyEnded,
        }
    }

    /// Ends the transaction, and returns the connection to the pool or closes it. `None`: no answer in time.
    async fn end(
        &mut self,
        sql: &str,
        timeout: Duration,
    ) -> Result<Option<Result<(), tokio_postgres::Error>>, Failure> {
        let answer = tokio::time::timeout(timeout, self.open()?.batch_execute(sql)).await.ok();
        if matches!(answer, Some(Ok(()))) {
            drop(self.object.take());
        } else {
            self.close();
        }
        Ok(answer)
    }

    fn close(&mut self) {
        self.object.take().into_iter().for_each(close);
    }

    fn open(&self) -> Result<&Object, Failure> {
        self.object.as_ref().ok_or(Failure::Cause(Cause::ConnectionLost))
    }
}

impl Drop for TransactionConnection {
    fn drop(&mut self) {
        self.close();
    }
}
