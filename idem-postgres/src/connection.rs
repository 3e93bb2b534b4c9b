//! [`Held`]: a connection of the pool while an operation uses it.
//!
//! INV-1: a connection on which a statement was begun and not ended (the caller went away) never goes back into the pool:
//! who takes it next would wait behind that statement, on a silent link for ever. It is closed; the server ends the
//! statement, which is a transaction of its own, in one way or the other.
//! INV-2: with unnamed statements, a connection on which one failed outside of a transaction is not used again. Its client
//! is told of the failure before the server has said that it is done; a pooler that takes the end of that statement for
//! the end of the next one gives the server to somebody else in the midst of it, together with the answer (pgbouncer's
//! issue 759).

use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::Statements;
use crate::error::Failure;
use crate::statement::Statement;

pub(crate) type Parameter<'a> = &'a (dyn ToSql + Sync);

/// A connection, for as long as an operation needs it.
pub(crate) struct Held {
    pool: Pool,
    /// How long another may be waited for.
    within: Duration,
    /// `None`: it was not to be used again.
    object: Option<Object>,
    statements: Statements,
    /// A statement is under way (INV-1).
    is_busy: bool,
}

impl Held {
    /// Takes a connection from the pool, or makes one.
    pub(crate) async fn take(pool: &Pool, statements: Statements, within: Duration) -> Result<Self, Failure> {
        let object = taken(pool, within).await?;
        Ok(Self { pool: pool.clone(), within, object: Some(object), statements, is_busy: false })
    }

    /// Runs a statement to its end.
    pub(crate) async fn query(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let object = present(&mut self.object, &self.pool, self.within).await?;
        self.is_busy = true;
        let result = run(object, self.statements, statement, parameters).await;
        self.is_busy = false;
        let is_unnamed = self.statements == Statements::Unnamed;
        if result.as_ref().is_err_and(|failure| is_unnamed || failure.ends_connection()) {
            self.discard();
        }
        result
    }

    /// The same for a statement that gives one row at the most.
    pub(crate) async fn query_opt(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Failure> {
        Ok(self.query(statement, parameters).await?.pop())
    }

    /// The same for a statement that changes a record if it may, and gives no row if others were in its way.
    pub(crate) async fn change(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Option<Row>, Failure> {
        match self.query_opt(statement, parameters).await {
            // Where sessions begin at a stricter level than READ COMMITTED, it is in these words that they were.
            Err(failure) if failure.is_conflict() => Ok(None),
            result => result,
        }
    }

    /// Runs a text of several statements as one transaction.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let object = present(&mut self.object, &self.pool, self.within).await?;
        self.is_busy = true;
        let result = object.batch_execute(sql).await.map_err(Failure::sent);
        self.is_busy = false;
        if result.is_err() {
            self.discard();
        }
        result
    }

    fn discard(&mut self) {
        if let Some(object) = self.object.take() {
            // Out of the pool, which may make another in its place; dropped, it is closed.
            drop(Object::take(object));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_busy {
            self.discard();
        }
    }
}

/// The connection that is held, or another one.
async fn present<'h>(
    held: &'h mut Option<Object>,
    pool: &Pool,
    within: Duration,
) -> Result<&'h Object, Failure> {
    match held {
        Some(object) => Ok(object),
        None => Ok(held.insert(taken(pool, within).await?)),
    }
}

/// A connection of the pool, or a new one.
async fn taken(pool: &Pool, within: Duration) -> Result<Object, Failure> {
    // Not by the pool's own timeouts: a pool of the user's may have been made without a runtime for them.
    match tokio::time::timeout(within, pool.get()).await {
        Ok(object) => object.map_err(Failure::Pool),
        Err(_elapsed) => {
            let status = pool.status();
            // Those that are being made are not counted.
            let is_exhausted = status.size >= status.max_size;
            let waited_for = if is_exhausted { TimeoutType::Wait } else { TimeoutType::Create };
            Err(Failure::Pool(PoolError::Timeout(waited_for)))
        }
    }
}

/// A connection while a transaction is open on it. Dropped, it is closed (INV-1): only [`end`](Self::end) and
/// [`commit_within`](Self::commit_within) give it back to its pool.
pub(crate) struct InTransaction {
    object: Option<Object>,
    statements: Statements,
}

impl InTransaction {
    pub(crate) async fn take(pool: &Pool, statements: Statements, within: Duration) -> Result<Self, Failure> {
        let mut held = Held::take(pool, statements, within).await?;
        Ok(Self { object: held.object.take(), statements })
    }

    pub(crate) fn client(&self) -> &Client {
        // Taken only by what takes or ends the transaction itself.
        let Some(object) = &self.object else { unreachable!("the transaction has ended") };
        object
    }

    /// Sends the beginning, and its first statement with it; or, if the beginning can fail, once it has not (INV-2: the
    /// end of what follows it would be taken for its own).
    pub(crate) async fn begin(
        &mut self,
        (beginning, can_fail): (&str, bool),
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let Some(object) = &self.object else { return Err(Failure::Sent(None)) };
        if can_fail {
            object.batch_execute(beginning).await.map_err(Failure::sent)?;
            return run(object, self.statements, statement, parameters).await;
        }
        // In this order, which is that of the requests on the connection. The first query of a prepared statement asks
        // for it before, and then it takes one round trip more.
        let (opened, rows) = tokio::join!(biased;
            async { object.batch_execute(beginning).await.map_err(Failure::sent) },
            run(object, self.statements, statement, parameters),
        );
        opened?;
        rows
    }

    pub(crate) async fn query(
        &mut self,
        statement: &Statement,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let Some(object) = &self.object else { return Err(Failure::Sent(None)) };
        run(object, self.statements, statement, parameters).await
    }

    /// Commits, and gives the connection back; if that failed, it is closed. `None`: there was no answer in time.
    pub(crate) async fn commit_within(&mut self, within: Duration) -> Option<Result<(), Failure>> {
        let Some(object) = self.object.take() else { return Some(Err(Failure::Sent(None))) };
        let committed = tokio::time::timeout(within, object.batch_execute("COMMIT")).await;
        if !matches!(committed, Ok(Ok(()))) {
            drop(Object::take(object));
        }
        committed.ok().map(|committed| committed.map_err(Failure::sent))
    }

    /// Ends the transaction by a statement, and gives the connection back; if that failed, it is closed.
    pub(crate) async fn end(&mut self, sql: &str, within: Duration) -> End {
        let Some(object) = self.object.take() else { return End::Before };
        let ended = tokio::time::timeout(within, object.batch_execute(sql)).await;
        if matches!(ended, Ok(Ok(()))) {
            return End::Said;
        }
        drop(Object::take(object));
        End::Unsaid
    }
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said that it did.
    Said,
    /// The server said nothing of it, and may go on with it for as long as its last statement takes.
    Unsaid,
    /// It had been ended before.
    Before,
}

impl Drop for InTransaction {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// Runs a statement on a connection, in the one way or the other.
pub(crate) async fn run(
    object: &Object,
    statements: Statements,
    statement: &Statement,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Failure> {
    match statements {
        Statements::Unnamed => {
            let typed: Vec<_> = parameters.iter().copied().zip(statement.types.iter().cloned()).collect();
            object.query_typed(&statement.sql, &typed).await.map_err(Failure::sent)
        }
        Statements::Prepared => {
            // Making it has no effect, whatever becomes of it.
            let prepared = object
                .prepare_typed_cached(&statement.sql, statement.types)
                .await
                .map_err(Failure::Unsent)?;
            object.query(&prepared, parameters).await.map_err(Failure::sent)
        }
    }
}
