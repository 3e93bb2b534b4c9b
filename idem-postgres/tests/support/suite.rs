//! The harness of the conformance suite: one server for each case, on a clock that the suite moves, with or without a pgbouncer
//! in front.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idem_conformance::{Ability, Clock, Harness, Instance};
use idem_core::store::Record;
use idem_core::{FencingToken, Key, ReservationStore};
use idem_postgres::{PostgresOptions, PostgresStore, Statements};
use test_servers::MovedClock;
use test_servers::postgres::{PgBouncer, Postgres, client};
use tokio_postgres::types::Type;

use crate::golden;

/// How the store reaches its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each test binary uses one of them")]
pub(crate) enum Setup {
    /// Directly, with prepared statements.
    Direct,
    /// Through pgbouncer in transaction mode.
    PgBouncer,
}

/// The servers of all locations. They live as long as this process.
static SERVERS: Mutex<Vec<Servers>> = Mutex::new(Vec::new());

struct Servers {
    postgres: Postgres,
    pgbouncer: Option<PgBouncer>,
}

impl Servers {
    async fn start(setup: Setup) -> Self {
        let postgres = Postgres::start_with_clock().await;
        let pgbouncer = match setup {
            Setup::Direct => None,
            Setup::PgBouncer => Some(PgBouncer::start(&postgres).await),
        };
        Self { postgres, pgbouncer }
    }

    fn reached(&self, setup: Setup) -> Reached {
        let url = self.pgbouncer.as_ref().map_or_else(|| self.postgres.url(), PgBouncer::url);
        Reached {
            setup,
            url,
            server_url: self.postgres.url(),
            directory: self.postgres.directory().to_owned(),
        }
    }
}

/// What a process needs to open a store.
#[derive(Clone)]
struct Reached {
    setup: Setup,
    url: String,
    server_url: String,
    /// The directory of the clock.
    directory: PathBuf,
}

impl Reached {
    fn to_location(&self) -> String {
        [&self.url, &self.server_url, self.directory.to_str().unwrap()].join("\n")
    }

    fn from_location(setup: Setup, location: &str) -> Self {
        let mut lines = location.lines().map(str::to_owned);
        let mut line = || lines.next().unwrap();
        Self { setup, url: line(), server_url: line(), directory: PathBuf::from(line()) }
    }

    async fn open(&self) -> PostgresStore {
        let statements = match self.setup {
            Setup::Direct => Statements::Prepared,
            Setup::PgBouncer => Statements::Unnamed,
        };
        // The suite sweeps itself.
        let options =
            PostgresOptions::new().statements(statements).maintenance_interval(Duration::from_secs(3600));
        PostgresStore::connect_with(&self.url, options).await.unwrap()
    }

    async fn instance(self, servers: Option<Servers>) -> Box<dyn Instance> {
        let store = Arc::new(self.open().await);
        Box::new(Table { store, clock: MovedClock::new(&self.directory), reached: self, servers })
    }
}

#[async_trait::async_trait]
impl Harness for Setup {
    async fn fresh(&self) -> Box<dyn Instance> {
        let servers = Servers::start(*self).await;
        servers.reached(*self).instance(Some(servers)).await
    }

    fn clock(&self) -> Clock {
        Clock::Adjustable
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        // The default.
        Some(16 << 20)
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::SetFence
            | Ability::LaterVersion
            | Ability::GoldenRecords
            | Ability::OutlivesProcess
            | Ability::KillServer => None,
            Ability::FlushScripts => Some("Postgres has no scripts"),
            _ => Some("an ability that this harness does not know"),
        }
    }

    fn new_location(&self) -> String {
        let setup = *self;
        // This function is not `async` and is called inside a runtime.
        let starting = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(Servers::start(setup))
        });
        let servers = starting.join().unwrap();
        let location = servers.reached(setup).to_location();
        SERVERS.lock().unwrap().push(servers);
        location
    }

    async fn open(&self, location: &str) -> Box<dyn Instance> {
        Reached::from_location(*self, location).instance(None).await
    }
}

/// The store in the table of one server.
struct Table {
    store: Arc<PostgresStore>,
    reached: Reached,
    clock: MovedClock,
    /// `Some` if this instance started them.
    servers: Option<Servers>,
}

impl Table {
    /// Changes the table without the store.
    async fn execute(&self, sql: &str) {
        client(&self.reached.server_url).await.unwrap().batch_execute(sql).await.unwrap();
    }
}

#[async_trait::async_trait]
impl Instance for Table {
    fn store(&self) -> Arc<dyn ReservationStore> {
        Arc::clone(&self.store) as Arc<dyn ReservationStore>
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        Arc::new(self.reached.open().await)
    }

    async fn advance(&self, by: Duration) {
        self.clock.forward(by);
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        let client = client(&self.reached.server_url).await.unwrap();
        let (fence, digest) = (i64::try_from(fence.get()).unwrap(), key.digest());
        let update = "UPDATE idem_record SET fence = $1 WHERE key = $2";
        let digest = &digest.as_bytes()[..];
        let changed = client.execute_typed(update, &[(&fence, Type::INT8), (&digest, Type::BYTEA)]).await;
        assert_eq!(changed.unwrap(), 1);
    }

    async fn write_later_version(&self, key: &Key) {
        let digest = key.digest().to_hex();
        self.execute(&format!(
            "INSERT INTO idem_record (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
             VALUES ('\\x{digest}', 's', 'n', 2, '?', '', 1, 1, '', 'infinity', 'infinity')"
        ))
        .await;
    }

    async fn write_golden(&self) -> Vec<(Key, Record)> {
        self.execute(golden::V1).await;
        golden::records().into_iter().filter(|(_, record)| golden::is_shown(record)).collect()
    }

    async fn kill_server(&self) {
        let servers = self.servers.as_ref().expect("the suite kills servers of fresh stores");
        servers.postgres.crash().await;
    }
}
