//! The conformance suite: two handles of one file, on a clock that the suite moves.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem_conformance::{Ability, Clock, Harness, Instance};
use idem_core::store::{Record, State};
use idem_core::{FencingToken, Key, ReservationStore};
use idem_sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

mod golden;

/// The default of `SqliteOptions::max_answer_bytes`.
const MAX_ANSWER_BYTES: usize = 16 << 20;

struct Sqlite;

#[async_trait::async_trait]
impl Harness for Sqlite {
    async fn fresh(&self) -> Box<dyn Instance> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("idem.db");
        Box::new(File::open(&path, Some(directory)).await)
    }

    fn clock(&self) -> Clock {
        Clock::Manual
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(MAX_ANSWER_BYTES)
    }

    fn removes_by_itself(&self) -> bool {
        false
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::SetFence | Ability::LaterVersion | Ability::GoldenRecords | Ability::OutlivesProcess => {
                None
            }
            Ability::KillServer => Some("SQLite has no server; the crash cases kill processes"),
            Ability::FlushScripts => Some("SQLite has no scripts"),
            _ => Some("this harness does not know the ability"),
        }
    }

    fn new_location(&self) -> String {
        // The case needs a file that outlives this process. The system cleans its temporary directory.
        tempfile::tempdir().unwrap().keep().join("idem.db").display().to_string()
    }

    async fn open(&self, location: &str) -> Box<dyn Instance> {
        Box::new(File::open(Path::new(location), None).await)
    }
}

/// A store in a file, and a clock that stands still until the suite moves it.
struct File {
    store: Arc<SqliteStore>,
    path: PathBuf,
    clock: SharedClock,
    _directory: Option<TempDir>,
}

impl File {
    async fn open(path: &Path, directory: Option<TempDir>) -> Self {
        let clock = SharedClock::of(path);
        let store = Arc::new(open(path, &clock).await);
        Self { store, path: path.to_owned(), clock, _directory: directory }
    }

    /// Changes the bytes of the key's record without the store.
    fn rewrite(&self, key: &Key, change: impl FnOnce(&[u8]) -> Vec<u8>) {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        let select = "SELECT record FROM idem_record WHERE key = ?1";
        let bytes: Vec<u8> = connection.query_row(select, [key.as_bytes()], |row| row.get(0)).unwrap();
        let update = "UPDATE idem_record SET record = ?2 WHERE key = ?1";
        assert_eq!(connection.execute(update, (key.as_bytes(), change(&bytes))).unwrap(), 1);
    }

    /// Writes a record without the store.
    fn insert(&self, key: &Key, expires_at: i64, record: &[u8]) {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        let digest = i32::from_be_bytes(key.digest().as_bytes()[..4].try_into().unwrap());
        let insert = "INSERT INTO idem_record (digest, expires_at, key, record) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(insert, (digest, expires_at, key.as_bytes(), record)).unwrap();
    }
}

async fn open(path: &Path, clock: &SharedClock) -> SqliteStore {
    // The suite sweeps by itself.
    let options = SqliteOptions::new().clock(clock.clock()).maintenance_interval(Duration::from_secs(3600));
    SqliteStore::open(path, options).await.unwrap()
}

/// The time, in a file next to the store's: all processes that open the store read the same clock.
#[derive(Clone)]
struct SharedClock(PathBuf);

impl SharedClock {
    /// The clock of the store at `path`. The first process sets it.
    fn of(path: &Path) -> Self {
        let clock = Self(path.with_extension("clock"));
        if !clock.0.exists() {
            // The file appears with its content, even if this process is killed here.
            let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
            let now = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
            file.write_all(&now.to_le_bytes()).unwrap();
            if let Err(error) = file.persist_noclobber(&clock.0) {
                assert_eq!(error.error.kind(), ErrorKind::AlreadyExists);
            }
        }
        clock
    }

    fn clock(&self) -> idem_sqlite::Clock {
        let clock = self.clone();
        idem_sqlite::Clock::from_fn(move || UNIX_EPOCH + Duration::from_micros(clock.read()))
    }

    fn read(&self) -> u64 {
        u64::from_le_bytes(fs::read(&self.0).unwrap().try_into().unwrap())
    }

    fn forward(&self, by: Duration) {
        let ahead = self.read() + micros(by);
        // One write in place, so that no reader finds the file empty.
        let file = fs::OpenOptions::new().write(true).open(&self.0).unwrap();
        file.write_all_at(&ahead.to_le_bytes(), 0).unwrap();
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap()
}

#[async_trait::async_trait]
impl Instance for File {
    fn store(&self) -> Arc<dyn ReservationStore> {
        Arc::clone(&self.store) as Arc<dyn ReservationStore>
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        Arc::new(open(&self.path, &self.clock).await)
    }

    async fn advance(&self, by: Duration) {
        self.clock.forward(by);
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        self.rewrite(key, |bytes| {
            // After the version byte and the owner's 16 bytes comes the fence as a varint (LEB128).
            let (head, rest) = bytes.split_at(17);
            let old = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let mut varint = Vec::new();
            let mut left = fence.get();
            while left >= 0x80 {
                varint.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
                left >>= 7;
            }
            varint.push(u8::try_from(left).unwrap());
            [head, &varint, &rest[old..]].concat()
        });
    }

    async fn write_later_version(&self, key: &Key) {
        self.insert(key, i64::MAX, &[2, 1, 2, 3]);
    }

    async fn write_golden(&self) -> Vec<(Key, Record)> {
        // A tombstone is never shown; the store's unit tests read that record.
        let shown = golden::records().into_iter().filter(|golden| golden.record.state != State::Released);
        shown
            .map(|golden| {
                let key = Key::new("golden", golden.name).unwrap();
                let expires_at = i64::try_from(golden.record.expires_at.as_micros()).unwrap();
                self.insert(&key, expires_at, &golden.bytes);
                (key, golden.record)
            })
            .collect()
    }
}

idem_conformance::main!(Sqlite);
