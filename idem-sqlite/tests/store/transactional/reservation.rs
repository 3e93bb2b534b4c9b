//! Transactional completion of an engine's reservation.

use idem_core::{Admission, Answer, Engine, InFlightPolicy, Reservation};
use idem_sqlite::{SqliteOptions, TransactionOutcome};
use rusqlite::Connection;

use super::{decline, entries, note, with_ledger};
use crate::support::{Directory, LEASE, ManualClock, key, payload};

#[tokio::test]
async fn a_reservation_commits_with_its_effect_and_waiting_callers_get_the_answer() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let wait = InFlightPolicy::Wait { timeout: LEASE };
    let engine = Engine::builder(store.clone()).in_flight(wait).build().unwrap();
    let reservation = granted(&engine, "a").await;
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.reserve(&key("a"), &payload()).await.unwrap() }
    });
    tokio::task::yield_now().await;
    let done = store.complete_reservation(reservation, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, TransactionOutcome::Completed(1));
    assert!(matches!(waiter.await.unwrap(), Admission::Replayed(value) if value.body == "noted"));
    assert_eq!(entries(&directory), ["a"]);
}

#[tokio::test]
async fn a_failed_step_releases_its_reservation_and_a_panic_abandons_it() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let engine = Engine::builder(store.clone()).build().unwrap();
    let failed = store.complete_reservation(granted(&engine, "a").await, decline).await.unwrap();
    assert_eq!(failed, TransactionOutcome::RolledBack("declined".to_owned()));
    let again = granted(&engine, "a").await;
    assert_eq!(again.attempt().number, 1);

    let panicking = |_: &Connection| -> rusqlite::Result<((), Answer)> { panic!("the step's message") };
    let caller = store.clone();
    let panicked = tokio::spawn(async move { caller.complete_reservation(again, panicking).await });
    assert!(panicked.await.unwrap_err().is_panic());
    // The reservation is abandoned in the background.
    let third = loop {
        match engine.reserve(&key("a"), &payload()).await.unwrap() {
            Admission::Granted(reservation) => break reservation,
            Admission::InFlight { .. } => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(third.attempt().number, 2);
    assert_eq!(entries(&directory), [""; 0]);
}

#[tokio::test]
async fn a_reservation_that_was_taken_over_has_no_effect() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = with_ledger(&directory, clock.options()).await;
    let engine = Engine::builder(store.clone()).build().unwrap();
    let zombie = granted(&engine, "a").await;
    clock.forward(LEASE);
    let owner = granted(&engine, "a").await;
    let lost = store.complete_reservation(zombie, |connection| note(connection, "zombie")).await.unwrap();
    assert_eq!(lost, TransactionOutcome::Lost);
    let done = store.complete_reservation(owner, |connection| note(connection, "owner")).await.unwrap();
    assert_eq!(done, TransactionOutcome::Completed(1));
    assert_eq!(entries(&directory), ["owner"]);
}

async fn granted(engine: &Engine, name: &str) -> Reservation {
    match engine.reserve(&key(name), &payload()).await.unwrap() {
        Admission::Granted(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}
