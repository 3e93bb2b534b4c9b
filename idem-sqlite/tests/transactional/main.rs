//! Completion together with an effect in the same file (promise P6).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod reservation;
mod shared;
mod step;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Answer, Effect, ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::{Options, SqliteStore, Transacted};
use rusqlite::Connection;

use crate::support::{DAY, Hands, LEASE, Place, abandoned, completed, is_replayed, key, reserved};

#[tokio::test]
async fn effect_and_completion_are_there_together() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert_eq!(entries(&place), ["a"]);
    assert!(is_replayed(&store, &key("a"), "noted").await);

    // Sent again, as after a lost reply: no second effect.
    let again =
        store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "again")).await.unwrap();
    assert_eq!(again, Transacted::AlreadyCompleted);
    assert_eq!(entries(&place), ["a"]);
}

#[tokio::test]
async fn an_error_rolls_back_the_step_alone_and_the_key_stays_its_owners() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let name = key("a");
    let failed = store.complete_with(&name, owner, DAY, |connection| {
        note(connection, "never").map_err(|error| error.to_string())?;
        Err::<((), Answer), _>("declined".to_owned())
    });
    let other = reserved(&store, &key("b")).await;
    assert_eq!(failed.await.unwrap(), Transacted::RolledBack("declined".to_owned()));
    assert_eq!(entries(&place), [""; 0]);
    completed(&store, &key("b"), other.0, "other").await;
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
}

#[tokio::test]
async fn a_panic_rolls_back_the_step_alone_and_reaches_its_caller() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| -> rusqlite::Result<((), Answer)> {
        note(connection, "never")?;
        panic!("the step's own words");
    };
    let caller = store.clone();
    let panicked = tokio::spawn(async move { caller.complete_with(&key("a"), owner, DAY, step).await });
    let panic = panicked.await.unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the step's own words");
    assert_eq!(entries(&place), [""; 0]);
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
}

#[tokio::test]
async fn a_zombie_has_no_effect() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    place.connection().execute_batch("CREATE TABLE ledger (entry TEXT NOT NULL) STRICT").unwrap();
    let (zombie, _, _) = reserved(&store, &key("a")).await;
    hands.forward(LEASE);
    let (owner, _, attempt) = reserved(&store, &key("a")).await;
    assert_eq!(attempt, 2);
    for token in [zombie, OwnerToken::random()] {
        let lost = store.complete_with(&key("a"), token, DAY, |connection| note(connection, "zombie")).await;
        assert_eq!(lost.unwrap(), Transacted::Lost);
    }
    // Over and not taken is not lost.
    hands.forward(LEASE * 2);
    let done =
        store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "owner")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert_eq!(entries(&place), ["owner"]);
}

#[tokio::test]
async fn an_owner_that_abandoned_may_still_complete_and_one_of_nothing_may_not() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    abandoned(&store, &key("a"), owner).await;
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    let lost = store.complete_with(&key("b"), owner, DAY, |connection| note(connection, "b")).await.unwrap();
    assert_eq!(lost, Transacted::Lost);
    assert_eq!(entries(&place), ["a"]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_undoes_the_effect() {
    let place = Place::new();
    let store = place.open_with(Options::new().max_answer_bytes(4)).await.unwrap();
    place.connection().execute_batch("CREATE TABLE ledger (entry TEXT NOT NULL) STRICT").unwrap();
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let error =
        store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::TooLarge, Effect::NotApplied));
    assert_eq!(entries(&place), [""; 0]);
    assert!(store.get(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_retention_of_zero_is_refused_before_the_step_runs() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| note(connection, "a");
    let error = store.complete_with(&key("a"), owner, Duration::ZERO, step).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Misconfigured);
    assert_eq!(entries(&place), [""; 0]);
}

async fn with_ledger(place: &Place) -> SqliteStore {
    let store = place.open().await;
    place.connection().execute_batch("CREATE TABLE ledger (entry TEXT NOT NULL) STRICT").unwrap();
    store
}

fn entries(place: &Place) -> Vec<String> {
    let connection = place.connection();
    let mut statement = connection.prepare("SELECT entry FROM ledger ORDER BY rowid").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

fn note(connection: &Connection, entry: &str) -> rusqlite::Result<(usize, Answer)> {
    let rows = connection.execute("INSERT INTO ledger (entry) VALUES (?1)", [entry])?;
    Ok((rows, StoredValue::bytes("noted").into()))
}
