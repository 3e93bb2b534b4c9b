//! What the tests of the store share: a store in a directory of its own, and short words for its operations.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use idem_conformance::span;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, FencingToken, Fingerprint, Key, ReleaseOutcome,
    ReservationStore, StoreError, StoredValue,
};
use idem_sqlite::{Clock, Options, SqliteStore};
use tempfile::TempDir;

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory with the file of a store.
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("idem.db")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        self.open_with(Options::new()).await.unwrap()
    }

    pub(crate) async fn open_with(&self, options: Options) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(self.file(), options).await
    }

    /// A connection of somebody else.
    pub(crate) fn connection(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.file()).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection
    }
}

/// A clock that is moved by hand, also backwards.
#[derive(Clone)]
pub(crate) struct Hands(Arc<Mutex<SystemTime>>);

impl Hands {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::now())))
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.0);
        Clock::from_fn(move || *time.lock().unwrap())
    }

    /// Microseconds since the epoch.
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

pub(crate) fn key(name: &str) -> Key {
    Key::new("scope", name).unwrap()
}

pub(crate) async fn reserve(
    store: &SqliteStore,
    key: &Key,
    owner: OwnerToken,
) -> Result<ReserveOutcome, StoreError> {
    store.reserve(key, ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(LEASE))).await
}

pub(crate) async fn reserved(store: &SqliteStore, key: &Key) -> (OwnerToken, FencingToken, u32) {
    let owner = OwnerToken::random();
    match reserve(store, key, owner).await.unwrap() {
        ReserveOutcome::Reserved { attempt, fence, .. } => (owner, fence, attempt),
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

/// Whether a duplicate is given this answer.
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
