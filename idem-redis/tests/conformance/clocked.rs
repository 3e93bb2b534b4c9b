//! [`Clocked`]: one server for each case, on a clock that the suite moves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idem_conformance::{Ability, Clock, Harness, Instance};
use idem_core::store::{Record, State};
use idem_core::{FencingToken, Key, ReservationStore};
use idem_redis::RedisStore;
use redis::Value;
use redis::aio::MultiplexedConnection;
use test_servers::MovedClock;
use test_servers::redis::Kind;
use tokio::sync::OnceCell;

use crate::golden;
use crate::support::{self, ClockedServer};

/// The suite over servers of one kind.
pub(crate) struct Clocked {
    kind: Kind,
    /// The servers of [`new_location`](Harness::new_location). They live as long as the suite.
    located: Mutex<Vec<ClockedServer>>,
}

impl Clocked {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, located: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Harness for Clocked {
    async fn fresh(&self) -> Box<dyn Instance> {
        // The suite runs each case on a thread with the case's name. One case kills the server.
        let is_durable = std::thread::current().name().is_some_and(|case| case.contains("killed_server"));
        let server = if is_durable {
            ClockedServer::start_durable(self.kind)
        } else {
            ClockedServer::start(self.kind)
        };
        let directory = server.directory().to_owned();
        Box::new(Opened::open(&directory, Some(server)).await)
    }

    fn clock(&self) -> Clock {
        Clock::Adjustable
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(16 << 20)
    }

    fn removes_by_itself(&self) -> bool {
        true
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::SetFence
            | Ability::LaterVersion
            | Ability::GoldenRecords
            | Ability::OutlivesProcess
            | Ability::KillServer
            | Ability::FlushScripts => None,
            _ => Some("an ability that this harness does not know"),
        }
    }

    /// The directory of a new server.
    fn new_location(&self) -> String {
        let server = ClockedServer::start(self.kind);
        let location = server.directory().display().to_string();
        self.located.lock().unwrap().push(server);
        location
    }

    async fn open(&self, location: &str) -> Box<dyn Instance> {
        Box::new(Opened::open(Path::new(location), None).await)
    }
}

/// A server's directory, opened by this process.
struct Opened {
    store: Arc<RedisStore>,
    directory: PathBuf,
    clock: MovedClock,
    /// Not the store's.
    connection: OnceCell<MultiplexedConnection>,
    /// `None` if the instance was opened by its location.
    server: Option<ClockedServer>,
}

impl Opened {
    async fn open(directory: &Path, server: Option<ClockedServer>) -> Self {
        let clock = MovedClock::new(directory);
        let (store, connection) = (Arc::new(connect(directory).await), OnceCell::new());
        Self { store, directory: directory.to_owned(), clock, connection, server }
    }

    /// The clock by which the server expires keys, in milliseconds.
    async fn time_of_expiry(&self) -> i64 {
        const SCRIPT: &str = "redis.call('SET', KEYS[1], '', 'PX', '1000')\n\
            local time = redis.call('PEXPIRETIME', KEYS[1]) - 1000\n\
            redis.call('DEL', KEYS[1])\n\
            return time";
        match self.ask(redis::cmd("EVAL").arg(SCRIPT).arg(1).arg("clock")).await {
            Value::Int(time) => time,
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, command: &redis::Cmd) -> Value {
        let connection = self.connection.get_or_init(|| support::connection(&self.directory));
        command.query_async(&mut connection.await.clone()).await.unwrap()
    }
}

async fn connect(directory: &Path) -> RedisStore {
    RedisStore::connect(&support::url(directory)).await.unwrap()
}

#[async_trait::async_trait]
impl Instance for Opened {
    fn store(&self) -> Arc<dyn ReservationStore> {
        Arc::clone(&self.store) as Arc<dyn ReservationStore>
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        Arc::new(connect(&self.directory).await)
    }

    async fn advance(&self, by: Duration) {
        // The server counts milliseconds, and a lease or a record includes its last one.
        let by = by + Duration::from_millis(2);
        let before = self.time_of_expiry().await;
        self.clock.forward(by);
        // Valkey caches the time for some milliseconds, which it measures with a clock that is not moved.
        while self.time_of_expiry().await < before + i64::try_from(by.as_millis()).unwrap() {}
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        let name = support::name(key);
        let Value::BulkString(mut record) = self.ask(redis::cmd("GET").arg(&name)).await else {
            panic!("there is no record")
        };
        let begins = match record[0] {
            b'I' | b'A' => 63,
            b'C' => 49,
            b'R' => 21,
            other => panic!("{other}"),
        };
        record[begins..begins + 7].copy_from_slice(&fence.get().to_be_bytes()[1..]);
        self.ask(redis::cmd("SET").arg(&name).arg(record).arg("KEEPTTL")).await;
    }

    async fn write_later_version(&self, key: &Key) {
        self.ask(redis::cmd("SET").arg(support::name(key)).arg("i2345").arg("PX").arg(3_600_000)).await;
    }

    async fn write_golden(&self) -> Vec<(Key, Record)> {
        let mut shown = Vec::new();
        for golden in golden::records() {
            let key = Key::new("golden", golden.name).unwrap();
            let set = redis::cmd("SET")
                .arg(support::name(&key))
                .arg(&golden.bytes)
                .arg("PX")
                .arg(golden.left)
                .clone();
            self.ask(&set).await;
            // `get` does not show tombstones. The unit tests of the format read this one.
            if golden.record.state != State::Released {
                shown.push((key, golden.record));
            }
        }
        shown
    }

    async fn flush_scripts(&self) {
        self.ask(redis::cmd("SCRIPT").arg("FLUSH").arg("SYNC")).await;
    }

    async fn kill_server(&self) {
        self.server.as_ref().expect("only a case's own server is killed").kill_and_restart();
    }
}
