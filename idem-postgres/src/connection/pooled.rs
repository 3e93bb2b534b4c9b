//! [`PooledConnection`]: a connection of the pool while an operation uses it.
//!
//! INV-1: a connection never returns to the pool while a statement is running on it, for example because the caller's
//! future was dropped: the next user would wait for that statement, on a silent link permanently. The connection is closed
//! instead. The statement is a transaction of its own, and the server completes it or undoes it.
//! INV-2: with unnamed statements, a connection is not used again after a statement failed on it outside of a transaction.
//! The client learns of the failure before the server has finished with the statement. A pooler that takes the end of that
//! statement for the end of the next one can give the server to another client during the next one, and with it the answer
//! (pgbouncer issue 759).

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio_postgres::Row;

use super::pool::{acquire, close, run};
use crate::error::Failure;
use crate::options::Statements;
use crate::sql::{Parameter, Statement};

pub(crate) struct PooledConnection {
    pool: Pool,
    pool_timeout: Duration,
    /// `None` after a failure that ended it; the next statement takes another one.
    object: Option<Object>,
    statements: Statements,
    /// A statement is running (INV-1).
    is_busy: bool,
}

impl PooledConnection {
    pub(crate) async fn acquire(
        pool: &Pool,
        statements: Statements,
        pool_timeout: Duration,
    ) -> Result<Self, Failure> {
        let object = acquire(pool, pool_timeout).await?;
        Ok(Self { pool: pool.clone(), pool_timeout, object: Some(object), statements, is_busy: false })
    }

    pub(crate) async fn query(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let statements = self.statements;
        let object = self.begin().await?;
        let result = run(object, statements, statement, parameters).await;
        let is_unusable = |failure: &Failure| failure.ends_connection() || statements == Statements::Unnamed;
        self.end(result.as_ref().is_err_and(is_unusable));
        result
    }

    /// Runs a statement that returns at most one row.
    pub(crate) async fn query_opt(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(statement, parameters).await?.pop())
    }

    /// Runs a statement that changes a record if it may, and otherwise returns no row.
    pub(crate) async fn change(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Failure> {
        match self.query_opt(statement, parameters).await {
            // In sessions with a stricter default isolation than READ COMMITTED a conflict is an error.
            Err(failure) if failure.is_conflict() => Ok(None),
            result => result,
        }
    }

    /// Runs several statements as one transaction.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let result = self.begin().await?.batch_execute(sql).await.map_err(Failure::Sent);
        self.end(result.is_err());
        result
    }

    async fn begin(&mut self) -> Result<&Object, Failure> {
        let object = match self.object.take() {
            Some(object) => object,
            None => acquire(&self.pool, self.pool_timeout).await?,
        };
        self.is_busy = true;
        Ok(self.object.insert(object))
    }

    fn end(&mut self, is_unusable: bool) {
        self.is_busy = false;
        if is_unusable {
            self.object.take().into_iter().for_each(close);
        }
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        self.end(self.is_busy);
    }
}
