//! [`Options`]: where a [`PostgresStore`](crate::PostgresStore) keeps its table, and how it talks to the server.

use std::time::Duration;

/// How statements are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// Each with its text, unnamed. Right everywhere, also behind a pooler (pgbouncer, a cloud's proxy) that gives a
    /// transaction any connection of the server's.
    Unnamed,
    /// Prepared once for each connection and then named. Faster, and right only if this process talks to the server
    /// itself, or the pooler keeps one server connection for each client (`pool_mode = session`): behind any other the
    /// name may be missing there, or *be another client's*. A plan that was made while the table was small is kept until
    /// the server has analysed it anew.
    Prepared,
}

/// The settings of a store.
///
/// ```
/// use idem_postgres::{Options, Statements};
///
/// let options = Options::new().schema("shop").pool_size(32).statements(Statements::Prepared);
/// assert_eq!(options.table, "idem_record");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The schema of the tables. It is quoted wherever it is used.
    pub schema: String,
    /// The name of the table of records, and the beginning of the names of what belongs to it: `_meta`, `_pkey`,
    /// `_sweep`, and its functions. It is quoted, too.
    pub table: String,
    /// Whether a store that finds no tables, or not all of their functions, makes them. Without it they are made beforehand,
    /// with [`schema_sql`](crate::PostgresStore::schema_sql), and the store's role needs no right to create anything.
    pub create_schema: bool,
    /// How statements are sent.
    pub statements: Statements,
    /// How many connections the store's own pool has at the most.
    pub pool_size: usize,
    /// How long an operation may wait for a connection of the pool before it fails without effect.
    pub pool_timeout: Duration,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// The longest answer that is kept; whatever this is, not more than 10^9 bytes, which Postgres can give back.
    pub max_answer_bytes: usize,
    /// How often expired records are removed in the background.
    pub upkeep_interval: Duration,
    /// How long a transaction of [`begin_transaction`](crate::ReservationExt::begin_transaction) may stay open between
    /// two statements (`idle_in_transaction_session_timeout`): from then on the server ends it, so that the key of a
    /// client that has vanished becomes free.
    pub idle_in_transaction_timeout: Duration,
}

impl Options {
    /// The tables `public.idem_record` and `public.idem_record_meta`, made if they are missing; sixteen connections,
    /// unnamed statements, answers of at most 16 MiB.
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
            upkeep_interval: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(60),
        }
    }

    /// The same options with another schema.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// The same options with another table.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The same options, with or without making what is missing.
    #[must_use]
    pub fn create_schema(mut self, create_schema: bool) -> Self {
        self.create_schema = create_schema;
        self
    }

    /// The same options with another way to send statements.
    #[must_use]
    pub fn statements(mut self, statements: Statements) -> Self {
        self.statements = statements;
        self
    }

    /// The same options with another bound on connections.
    #[must_use]
    pub fn pool_size(mut self, pool_size: usize) -> Self {
        self.pool_size = pool_size;
        self
    }

    /// The same options with another bound on the wait for a connection.
    #[must_use]
    pub fn pool_timeout(mut self, pool_timeout: Duration) -> Self {
        self.pool_timeout = pool_timeout;
        self
    }

    /// The same options with another bound on the making of a connection.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The same options with another bound on the length of an answer.
    #[must_use]
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// The same options with another interval between clean-ups.
    #[must_use]
    pub fn upkeep_interval(mut self, upkeep_interval: Duration) -> Self {
        self.upkeep_interval = upkeep_interval;
        self
    }

    /// The same options with another patience with a transaction that nobody goes on with.
    #[must_use]
    pub fn idle_in_transaction_timeout(mut self, idle_in_transaction_timeout: Duration) -> Self {
        self.idle_in_transaction_timeout = idle_in_transaction_timeout;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
