//! [`Database`]: what the rounds see of a store from outside, and the databases.

use rusqlite::Connection;

use crate::servers::Postgres;
use crate::support::Files;

/// The database of a service, as an onlooker sees it.
pub(crate) trait Database {
    /// Where the service's processes live.
    fn files(&self) -> &Files;

    /// An onlooker: of the database that holds the ledger if that is the store's own, and of the ledger's file if not.
    fn onlooker(&self, ledger_is_in_store: bool) -> Box<dyn Onlooker>;
}

/// Looks at the ledger, and at who is writing to its database.
pub(crate) trait Onlooker {
    /// Whether somebody is inside of a transaction that has written.
    fn sees_open_transaction(&mut self) -> bool;

    /// The attempts that have a committed row under this key, in the order of their rows.
    fn attempts(&mut self, key: &str) -> Vec<u32>;
}

/// The store in one file.
pub(crate) struct Sqlite(Files);

impl Sqlite {
    pub(crate) fn new() -> Self {
        Self(Files::new())
    }
}

impl Database for Sqlite {
    fn files(&self) -> &Files {
        &self.0
    }

    fn onlooker(&self, ledger_is_in_store: bool) -> Box<dyn Onlooker> {
        let name = if ledger_is_in_store { "store.db" } else { "ledger.db" };
        Box::new(Connection::open(self.0.path(name)).unwrap())
    }
}

impl Database for (Postgres, Files) {
    fn files(&self) -> &Files {
        &self.1
    }

    fn onlooker(&self, ledger_is_in_store: bool) -> Box<dyn Onlooker> {
        if ledger_is_in_store {
            let (client, runtime) = self.0.client();
            Box::new(OnPostgres { client, runtime })
        } else {
            Box::new(Connection::open(self.1.path("ledger.db")).unwrap())
        }
    }
}

/// Looks at a Postgres server.
struct OnPostgres {
    client: tokio_postgres::Client,
    runtime: tokio::runtime::Handle,
}

impl Onlooker for OnPostgres {
    fn sees_open_transaction(&mut self) -> bool {
        // A writer of the ledger keeps this lock until its transaction ends.
        let locks =
            "SELECT 1 FROM pg_locks WHERE relation = 'ledger'::regclass AND mode = 'RowExclusiveLock'";
        !self.runtime.block_on(self.client.query(locks, &[])).unwrap().is_empty()
    }

    fn attempts(&mut self, key: &str) -> Vec<u32> {
        let rows = "SELECT attempt FROM ledger WHERE key = $1 ORDER BY id";
        let rows = self.runtime.block_on(self.client.query(rows, &[&key])).unwrap();
        rows.iter().map(|row| u32::try_from(row.get::<_, i64>(0)).unwrap()).collect()
    }
}

/// A store that is no database: the ledger is all that can be looked at.
pub(crate) struct Ledger(Files);

impl Ledger {
    pub(crate) fn with_store(store: String) -> Self {
        Self(Files::with_store(store))
    }
}

impl Database for Ledger {
    fn files(&self) -> &Files {
        &self.0
    }

    fn onlooker(&self, ledger_is_in_store: bool) -> Box<dyn Onlooker> {
        assert!(!ledger_is_in_store, "it has no transactions");
        Box::new(Connection::open(self.0.path("ledger.db")).unwrap())
    }
}

impl Onlooker for Connection {
    fn sees_open_transaction(&mut self) -> bool {
        // Without a timeout, it is refused at once if another has the file's only lock for writing.
        self.busy_timeout(std::time::Duration::ZERO).unwrap();
        self.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_err()
    }

    fn attempts(&mut self, key: &str) -> Vec<u32> {
        self.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        let mut rows = self.prepare_cached("SELECT attempt FROM ledger WHERE key = ?1 ORDER BY id").unwrap();
        rows.query_map([key], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}
