//! Helpers of this crate's tests: a store in a directory of its own, a clock, and short names for its operations.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, FencingToken, Fingerprint, Key, ReleaseOutcome,
    ReservationStore, StoreError, StoreErrorKind, StoredValue,
};
use idem_sqlite::{Clock, SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory with the file of a store.
pub(crate) struct Directory(TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.path().join("idem.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.path().join("idem.db-wal")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        self.open_with(SqliteOptions::new()).await
    }

    pub(crate) async fn open_with(&self, options: SqliteOptions) -> SqliteStore {
        SqliteStore::open(self.file(), options).await.unwrap()
    }

    pub(crate) async fn try_open(&self) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.file(), SqliteOptions::new()).await
    }

    /// A connection of another process.
    pub(crate) fn connection(&self) -> Connection {
        let connection = Connection::open(self.file()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }

    /// The number that a query without parameters returns.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.connection().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// A clock that the test moves, also backwards.
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<Mutex<SystemTime>>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::now())))
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        let time = Arc::clone(&self.0);
        SqliteOptions::new().clock(Clock::from_fn(move || *time.lock().unwrap()))
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn micros(&self) -> u128 {
        self.0.lock().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()
    }

    pub(crate) fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(crate) fn back(&self, by: Duration) {
        *self.0.lock().unwrap() -= by;
    }
}

/// A granted reservation.
pub(crate) struct Granted {
    pub(crate) owner: OwnerToken,
    pub(crate) fence: FencingToken,
    pub(crate) attempt: u32,
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("scope", name).unwrap()
}

pub(crate) fn payload() -> Fingerprint {
    Fingerprint::from_parts(["payload"])
}

pub(crate) async fn reserve(
    store: &SqliteStore,
    key: &Key,
    owner: OwnerToken,
) -> Result<ReserveOutcome, StoreError> {
    store.reserve(key, ReserveRequest::new(owner, payload(), span(LEASE))).await
}

pub(crate) async fn reserved(store: &SqliteStore, key: &Key) -> Granted {
    let owner = OwnerToken::random();
    match reserve(store, key, owner).await.unwrap() {
        ReserveOutcome::Reserved { attempt, fence, .. } => Granted { owner, fence, attempt },
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn complete(
    store: &SqliteStore,
    key: &Key,
    owner: OwnerToken,
    answer: &'static str,
) -> Result<CompleteOutcome, StoreError> {
    store.complete(key, owner, Completion::new(StoredValue::bytes(answer), span(DAY))).await
}

pub(crate) async fn completed(store: &SqliteStore, key: &Key, owner: OwnerToken, answer: &'static str) {
    assert_eq!(complete(store, key, owner, answer).await.unwrap(), CompleteOutcome::Completed);
}

/// Whether a duplicate gets this answer.
pub(crate) async fn is_replayed(store: &SqliteStore, key: &Key, answer: &'static str) -> bool {
    let outcome = reserve(store, key, OwnerToken::random()).await.unwrap();
    matches!(outcome, ReserveOutcome::Completed { answer: Answer::Value(found), .. } if found == StoredValue::bytes(answer))
}

pub(crate) async fn released(store: &SqliteStore, key: &Key, owner: OwnerToken) {
    assert_eq!(store.release(key, owner).await.unwrap(), ReleaseOutcome::Released);
}

pub(crate) async fn abandoned(store: &SqliteStore, key: &Key, owner: OwnerToken) {
    assert_eq!(store.abandon(key, owner).await.unwrap(), AbandonOutcome::Abandoned);
}

/// Asserts that an operation failed like this and had no effect.
#[track_caller]
pub(crate) fn assert_no_effect(error: &StoreError, kind: StoreErrorKind) {
    assert_eq!((error.kind, error.effect), (kind, Effect::NotApplied), "{error:?}");
}

/// The text of the error's source.
pub(crate) fn source_of(error: &StoreError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

/// Waits until a background thread has made this true.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets the other tasks of this runtime run until each waits.
pub(crate) async fn let_others_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}
