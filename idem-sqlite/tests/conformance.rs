//! The conformance suite over the store: two openings of one file, on a clock that the suite moves.

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
use idem_sqlite::{Options, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

mod golden;

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
        Some(Options::new().max_answer_bytes)
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
            _ => Some("an ability that this harness does not know"),
        }
    }

    fn new_location(&self) -> String {
        // It outlives this process, as the case wants; the system's temporary directory is cleaned by its owner.
        tempfile::tempdir().unwrap().keep().join("idem.db").display().to_string()
    }

    async fn open(&self, location: &str) -> Box<dyn Instance> {
        Box::new(File::open(Path::new(location), None).await)
    }
}

/// One file, and a clock that stands still but for what the suite lets pass.
struct File {
    store: Arc<SqliteStore>,
    path: PathBuf,
    hands: Hands,
    _directory: Option<TempDir>,
}

impl File {
    async fn open(path: &Path, directory: Option<TempDir>) -> Self {
        let hands = Hands::beside(path);
        let store = Arc::new(open(path, &hands).await);
        Self { store, path: path.to_owned(), hands, _directory: directory }
    }

    /// Changes the bytes of the key's record behind the store's back.
    fn rewrite(&self, key: &Key, change: impl FnOnce(&[u8]) -> Vec<u8>) {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        let select = "SELECT record FROM idem_record WHERE key = ?1";
        let bytes: Vec<u8> = connection.query_row(select, [key.as_bytes()], |row| row.get(0)).unwrap();
        let update = "UPDATE idem_record SET record = ?2 WHERE key = ?1";
        assert_eq!(connection.execute(update, (key.as_bytes(), change(&bytes))).unwrap(), 1);
    }

    /// Writes a record that the store has not made.
    fn insert(&self, key: &Key, expires_at: i64, record: &[u8]) {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        let digest = i32::from_be_bytes(key.digest().as_bytes()[..4].try_into().unwrap());
        let insert = "INSERT INTO idem_record (digest, expires_at, key, record) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(insert, (digest, expires_at, key.as_bytes(), record)).unwrap();
    }
}

async fn open(path: &Path, hands: &Hands) -> SqliteStore {
    // What the suite wants removed, it sweeps itself.
    let options = Options::new().clock(hands.clock()).upkeep_interval(Duration::from_secs(3600));
    SqliteStore::open(path, options).await.unwrap()
}

/// The time, in a file beside the store's: every process that has the store open sees the same clock.
#[derive(Clone)]
struct Hands(PathBuf);

impl Hands {
    /// The clock of the store at `path`. Whoever comes first sets it.
    fn beside(path: &Path) -> Self {
        let hands = Self(path.with_extension("clock"));
        if !hands.0.exists() {
            // It is there whole or not at all: a process may be killed here, and another be waiting for it.
            let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
            let now = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
            file.write_all(&now.to_le_bytes()).unwrap();
            if let Err(error) = file.persist_noclobber(&hands.0) {
                assert_eq!(error.error.kind(), ErrorKind::AlreadyExists);
            }
        }
        hands
    }

    fn clock(&self) -> idem_sqlite::Clock {
        let hands = self.clone();
        idem_sqlite::Clock::from_fn(move || UNIX_EPOCH + Duration::from_micros(hands.read()))
    }

    fn read(&self) -> u64 {
        u64::from_le_bytes(fs::read(&self.0).unwrap().try_into().unwrap())
    }

    fn forward(&self, by: Duration) {
        let ahead = self.read() + micros(by);
        // In place and in one write, so that no reader finds it empty.
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
        Arc::new(open(&self.path, &self.hands).await)
    }

    async fn advance(&self, by: Duration) {
        self.hands.forward(by);
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        self.rewrite(key, |bytes| {
            // A version byte and the owner's 16; then the fence as a varint (LEB128), which is replaced.
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
        // A tombstone is not shown to anybody; the store's own tests read that one.
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
