//! Transactional completion: an effect in the same file is committed with its completion (promise P6).

mod reservation;
mod shared;
mod step;

use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Answer, ReservationStore, StoreError, StoreErrorKind, StoredValue};
use idem_sqlite::{SqliteOptions, SqliteStore, TransactionOutcome};
use rusqlite::Connection;

use crate::support::{
    DAY, Directory, LEASE, ManualClock, abandoned, assert_no_effect, completed, is_replayed, key, reserved,
};

type Noted = Result<TransactionOutcome<usize, rusqlite::Error>, StoreError>;

#[tokio::test]
async fn the_effect_and_the_completion_are_committed_together() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    assert_noted(note_with(&store, "a", owner, "a").await);
    assert_eq!(entries(&directory), ["a"]);
    assert!(is_replayed(&store, &key("a"), "noted").await);

    // A second call, as after a lost reply, has no second effect.
    let again = note_with(&store, "a", owner, "again").await.unwrap();
    assert_eq!(again, TransactionOutcome::AlreadyCompleted);
    assert_eq!(entries(&directory), ["a"]);
}

#[tokio::test]
async fn an_error_rolls_back_only_the_step_and_the_owner_keeps_the_key() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let name = key("a");
    let failed = store.complete_with(&name, owner, DAY, decline);
    let other = reserved(&store, &key("b")).await.owner;
    assert_eq!(failed.await.unwrap(), TransactionOutcome::RolledBack("declined".to_owned()));
    assert_eq!(entries(&directory), [""; 0]);
    completed(&store, &key("b"), other, "other").await;
    assert_noted(note_with(&store, "a", owner, "a").await);
}

#[tokio::test]
async fn a_panic_rolls_back_only_the_step_and_reaches_its_caller() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let step = |connection: &Connection| -> rusqlite::Result<((), Answer)> {
        note(connection, "never")?;
        panic!("the step's message");
    };
    let caller = store.clone();
    let panicked = tokio::spawn(async move { caller.complete_with(&key("a"), owner, DAY, step).await });
    let panic = panicked.await.unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the step's message");
    assert_eq!(entries(&directory), [""; 0]);
    assert_noted(note_with(&store, "a", owner, "a").await);
}

#[tokio::test]
async fn a_zombie_has_no_effect() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = with_ledger(&directory, clock.options()).await;
    let zombie = reserved(&store, &key("a")).await.owner;
    clock.forward(LEASE);
    let granted = reserved(&store, &key("a")).await;
    assert_eq!(granted.attempt, 2);
    for token in [zombie, OwnerToken::random()] {
        let lost = note_with(&store, "a", token, "zombie").await;
        assert_eq!(lost.unwrap(), TransactionOutcome::Lost);
    }
    // A lease that is over is not lost until another owner takes the key.
    clock.forward(LEASE * 2);
    assert_noted(note_with(&store, "a", granted.owner, "owner").await);
    assert_eq!(entries(&directory), ["owner"]);
}

#[tokio::test]
async fn an_owner_that_abandoned_can_complete_and_a_token_without_a_record_cannot() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    abandoned(&store, &key("a"), owner).await;
    assert_noted(note_with(&store, "a", owner, "a").await);
    assert_eq!(note_with(&store, "b", owner, "b").await.unwrap(), TransactionOutcome::Lost);
    assert_eq!(entries(&directory), ["a"]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_rolls_back_the_effect() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new().max_answer_bytes(4)).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let error = note_with(&store, "a", owner, "a").await.unwrap_err();
    assert_no_effect(&error, StoreErrorKind::TooLarge);
    assert_eq!(entries(&directory), [""; 0]);
    assert!(store.get(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_retention_of_zero_is_refused_before_the_step_runs() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let step = |connection: &Connection| note(connection, "a");
    let error = store.complete_with(&key("a"), owner, Duration::ZERO, step).await.unwrap_err();
    assert_no_effect(&error, StoreErrorKind::Misconfigured);
    assert_eq!(entries(&directory), [""; 0]);
}

/// A store, and a ledger in the same file.
async fn with_ledger(directory: &Directory, options: SqliteOptions) -> SqliteStore {
    let store = directory.open_with(options).await;
    directory.connection().execute_batch("CREATE TABLE ledger (entry TEXT NOT NULL) STRICT").unwrap();
    store
}

fn entries(directory: &Directory) -> Vec<String> {
    let connection = directory.connection();
    let mut statement = connection.prepare("SELECT entry FROM ledger ORDER BY rowid").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A step that writes an entry into the ledger.
fn note(connection: &Connection, entry: &str) -> rusqlite::Result<(usize, Answer)> {
    let rows = connection.execute("INSERT INTO ledger (entry) VALUES (?1)", [entry])?;
    Ok((rows, StoredValue::bytes("noted").into()))
}

/// A step that writes an entry and then fails.
fn decline(connection: &Connection) -> Result<((), Answer), String> {
    note(connection, "never").map_err(|error| error.to_string())?;
    Err("declined".to_owned())
}

/// Completes the key with a note.
async fn note_with(store: &SqliteStore, name: &str, owner: OwnerToken, entry: &'static str) -> Noted {
    store.complete_with(&key(name), owner, DAY, move |connection| note(connection, entry)).await
}

#[track_caller]
fn assert_noted(result: Noted) {
    assert_eq!(result.unwrap(), TransactionOutcome::Completed(1));
}
