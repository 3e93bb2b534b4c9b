//! The same for those who hold an engine's reservation.

use idem_core::{Admission, Answer, Engine, Fingerprint, InFlightPolicy, Reservation};
use idem_sqlite::{Options, Transacted};
use rusqlite::Connection;

use crate::support::{Hands, LEASE, Place, key};
use crate::{entries, note, with_ledger};

#[tokio::test]
async fn a_reservation_is_completed_with_its_effect_and_its_waiters_are_given_the_answer() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let wait = InFlightPolicy::Wait { timeout: LEASE };
    let engine = Engine::builder(store.clone()).in_flight(wait).build().unwrap();
    let reservation = granted(&engine, "a").await;
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.reserve(&key("a"), &Fingerprint::from_parts(["payload"])).await.unwrap() }
    });
    tokio::task::yield_now().await;
    let done = store.complete_reservation(reservation, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert!(matches!(waiter.await.unwrap(), Admission::Replayed(response) if response.body == "noted"));
    assert_eq!(entries(&place), ["a"]);
}

#[tokio::test]
async fn a_reservation_whose_step_fails_is_released_and_one_whose_step_panics_is_abandoned() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let engine = Engine::builder(store.clone()).build().unwrap();
    let step = |connection: &Connection| {
        note(connection, "never").map_err(|error| error.to_string())?;
        Err::<((), Answer), _>("declined".to_owned())
    };
    let failed = store.complete_reservation(granted(&engine, "a").await, step).await.unwrap();
    assert_eq!(failed, Transacted::RolledBack("declined".to_owned()));
    let again = granted(&engine, "a").await;
    assert_eq!(again.attempt().number, 1);

    let panicking = |_: &Connection| -> rusqlite::Result<((), Answer)> { panic!("the step's own words") };
    let caller = store.clone();
    let panicked = tokio::spawn(async move { caller.complete_reservation(again, panicking).await });
    assert!(panicked.await.unwrap_err().is_panic());
    // The guard abandons in the background; the next caller runs once that has arrived.
    let third = loop {
        match engine.reserve(&key("a"), &Fingerprint::from_parts(["payload"])).await.unwrap() {
            Admission::Granted(reservation) => break reservation,
            Admission::InFlight { .. } => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(third.attempt().number, 2);
    assert_eq!(entries(&place), [""; 0]);
}

#[tokio::test]
async fn a_reservation_that_was_taken_over_has_no_effect() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    place.connection().execute_batch("CREATE TABLE ledger (entry TEXT NOT NULL) STRICT").unwrap();
    let engine = Engine::builder(store.clone()).build().unwrap();
    let zombie = granted(&engine, "a").await;
    hands.forward(LEASE);
    let owner = granted(&engine, "a").await;
    let lost = store.complete_reservation(zombie, |connection| note(connection, "zombie")).await.unwrap();
    assert_eq!(lost, Transacted::Lost);
    let done = store.complete_reservation(owner, |connection| note(connection, "owner")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert_eq!(entries(&place), ["owner"]);
}

async fn granted(engine: &Engine, name: &str) -> Reservation {
    match engine.reserve(&key(name), &Fingerprint::from_parts(["payload"])).await.unwrap() {
        Admission::Granted(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}
