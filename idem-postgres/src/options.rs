//! [`PostgresOptions`]: where a store keeps its table, and how it talks to the server.

use std::time::Duration;

/// How statements are sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// Sends the text with each call. Correct everywhere, also behind a pooler (pgbouncer, a cloud provider's proxy) that
    /// runs each transaction on any of its server connections.
    Unnamed,
    /// Prepares each statement once per connection, under a name.
    ///
    /// Faster, but only correct on a direct connection, or behind a pooler that gives each client a server connection of
    /// its own (`pool_mode = session`). Behind any other pooler the name can be missing on the server, or can *belong to
    /// another client*. A plan that was made while the table was small stays in use until the server analyzes the table
    /// again.
    Prepared,
}

/// The settings of a [`PostgresStore`](crate::PostgresStore).
///
/// ```
/// use std::time::Duration;
/// use idem_postgres::{PostgresOptions, Statements};
///
/// let options = PostgresOptions::new()
///     .schema("shop")
///     .pool_size(32)
///     .pool_timeout(Duration::from_secs(2))
///     .statements(Statements::Prepared);
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a store is opened with them"]
pub struct PostgresOptions {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) create_schema: bool,
    pub(crate) statements: Statements,
    pub(crate) pool_size: usize,
    pub(crate) pool_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_answer_bytes: usize,
    pub(crate) maintenance_interval: Duration,
    pub(crate) idle_in_transaction_timeout: Duration,
}

impl PostgresOptions {
    /// The default settings; each method names its default.
    pub fn new() -> Self {
        Self {
            schema: "public".to_owned(),
            table: "idem_record".to_owned(),
            create_schema: true,
            statements: Statements::Unnamed,
            pool_size: 16,
            pool_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            max_answer_bytes: 16 << 20,
            maintenance_interval: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
        }
    }

    /// Sets the schema of the tables and their functions. Default: `public`.
    ///
    /// 1 to 63 bytes without control characters. Any other character is allowed, because the name is always quoted.
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the name of the table of records. Default: `idem_record`.
    ///
    /// The names of the other objects begin with it: `_meta`, `_pkey`, `_sweep`, and the functions `_reserve`, `_insert` and
    /// `_complete`. 1 to 47 bytes without control characters. The name is always quoted.
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// Sets whether connecting creates tables and functions that are missing. Default: `true`.
    ///
    /// With `false`, create them beforehand with [`schema_sql`](crate::PostgresStore::schema_sql). The role of the store
    /// then needs no right to create anything.
    pub fn create_schema(mut self, create_schema: bool) -> Self {
        self.create_schema = create_schema;
        self
    }

    /// Sets how statements are sent. Default: [`Statements::Unnamed`], which is correct behind every pooler.
    pub fn statements(mut self, statements: Statements) -> Self {
        self.statements = statements;
        self
    }

    /// Sets the maximum number of connections in the store's own pool. Default: 16; at least 1.
    ///
    /// Each operation uses one connection for as long as it runs, and each open
    /// [`Transaction`](crate::Transaction) uses one. Not used with [`from_pool`](crate::PostgresStore::from_pool).
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.pool_size = pool_size;
        self
    }

    /// Sets how long an operation waits for a connection of the pool. Default: 5 seconds.
    ///
    /// After that it fails as [`Timeout`](idem_core::StoreErrorKind::Timeout), without effect.
    pub fn pool_timeout(mut self, pool_timeout: Duration) -> Self {
        self.pool_timeout = pool_timeout;
        self
    }

    /// Sets how long opening a new connection may take. Default: 5 seconds.
    ///
    /// A `connect_timeout` in the URL takes precedence for each attempt to connect to a host. Not used with
    /// [`from_pool`](crate::PostgresStore::from_pool).
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets the maximum length of an answer in bytes. Default: 16 MiB.
    ///
    /// A longer answer is refused as [`TooLarge`](idem_core::StoreErrorKind::TooLarge) before anything is sent. Values above
    /// 10^9 count as 10^9, because Postgres cannot return a longer one.
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// Sets the pause between two removals of expired records in the background. Default: 10 seconds; at least 1
    /// millisecond.
    ///
    /// It affects the size of the table only: an expired record counts as absent, removed or not.
    pub fn maintenance_interval(mut self, maintenance_interval: Duration) -> Self {
        self.maintenance_interval = maintenance_interval;
        self
    }

    /// Sets how long a transaction of [`begin_transaction`](crate::ReservationExt::begin_transaction) may stay idle between
    /// two statements. Default: 60 seconds; 1 millisecond to 2,147,483 seconds.
    ///
    /// After that the server ends the session and rolls back (`idle_in_transaction_session_timeout`), so that the key of a
    /// client that vanished becomes free. It does not limit how long the whole transaction takes.
    pub fn idle_in_transaction_timeout(mut self, idle_in_transaction_timeout: Duration) -> Self {
        self.idle_in_transaction_timeout = idle_in_transaction_timeout;
        self
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}
