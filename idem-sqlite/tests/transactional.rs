//! Completion together with an effect in the same file (promise P6).

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod support;

use std::time::Duration;

use idem_core::{
    Admission, Answer, Effect, Engine, Fingerprint, InFlightPolicy, OwnerToken, Reservation,
    ReservationStore, Response, StoreErrorKind,
};
use idem_sqlite::{Options, SqliteStore, Transacted};
use rusqlite::Connection;

use crate::support::{DAY, Hands, LEASE, Place, abandoned, completed, is_replayed, key, reserved};

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
    Ok((rows, Response::bytes("noted").into()))
}

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
async fn a_step_cannot_end_the_transaction_or_change_the_connection() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    for sql in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "RELEASE idem_step",
        "ROLLBACK TO Idem_Step",
        "ATTACH ':memory:' AS other",
        "PRAGMA synchronous = OFF",
    ] {
        let name = key(sql);
        let (owner, _, _) = reserved(&store, &name).await;
        let step = move |connection: &Connection| {
            let (rows, answer) = note(connection, "kept")?;
            let batch = connection.execute_batch(sql).unwrap_err();
            // The store's own statements are kept prepared on this connection, and are no way around it.
            let kept = connection.prepare_cached(sql).and_then(|mut kept| kept.raw_execute()).unwrap_err();
            for denied in [batch, kept] {
                assert!(denied.to_string().contains("not authorized"), "{sql}: {denied}");
            }
            Ok::<_, rusqlite::Error>((rows, answer))
        };
        assert_eq!(store.complete_with(&name, owner, DAY, step).await.unwrap(), Transacted::Completed(1));
    }
    assert_eq!(entries(&place).len(), 7);
}

#[tokio::test]
async fn a_step_cannot_write_the_stores_own_tables() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| {
        for sql in [
            "INSERT INTO idem_meta (id, removed_fence) VALUES (2, 0)",
            "UPDATE IDEM_record SET expires_at = 0",
            "DELETE FROM idem_record",
            "DROP TABLE idem_meta",
            "ALTER TABLE idem_meta ADD COLUMN x",
            "DROP INDEX idem_record_digest",
            "CREATE TRIGGER t AFTER INSERT ON idem_record BEGIN SELECT 1; END",
        ] {
            let denied = connection.execute_batch(sql).unwrap_err();
            assert!(denied.to_string().contains("not authorized"), "{sql}: {denied}");
        }
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
}

/// `OR ROLLBACK` and constraints that are checked at the commit undo a transaction without being asked to.
#[tokio::test]
async fn a_step_whose_statement_undoes_the_transaction_fails_alone_and_says_why() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    place
        .connection()
        .execute_batch(
            "CREATE TABLE account (id INTEGER PRIMARY KEY) STRICT;
             CREATE TABLE payment (account INTEGER REFERENCES account DEFERRABLE INITIALLY DEFERRED) STRICT;
             INSERT INTO account VALUES (1)",
        )
        .unwrap();
    for (sql, says) in [
        ("INSERT OR ROLLBACK INTO account VALUES (1)", "UNIQUE"),
        ("INSERT INTO payment VALUES (2)", "FOREIGN KEY"),
    ] {
        let lock = place.connection();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        // The writer waits for the lock with the first of these, and takes the others as one group.
        let first = tokio::spawn(noted(store.clone(), format!("{says} first")));
        tokio::task::yield_now().await;
        let before = tokio::spawn(noted(store.clone(), format!("{says} before")));
        tokio::task::yield_now().await;
        let failing = tokio::spawn({
            let store = store.clone();
            async move {
                let owner = OwnerToken::random();
                let _ = support::reserve(&store, &key(says), owner).await.unwrap();
                let step = move |connection: &Connection| {
                    note(connection, "never")?;
                    connection.execute_batch(sql)?;
                    note(connection, "never")
                };
                store.complete_with(&key(says), owner, DAY, step).await
            }
        });
        let after = tokio::spawn(noted(store.clone(), format!("{says} after")));
        lock.execute_batch("COMMIT").unwrap();
        match failing.await.unwrap() {
            Ok(Transacted::RolledBack(error)) => assert!(error.to_string().contains(says), "{error}"),
            Err(error) => {
                assert_eq!(error.effect, Effect::NotApplied);
                let source = std::error::Error::source(&error).unwrap().to_string();
                assert!(source.contains(says) || source.contains("ended the transaction"), "{source}");
            }
            Ok(other) => panic!("{other:?}"),
        }
        for noted in [first, before, after] {
            noted.await.unwrap();
        }
        assert!(store.get(&key(says)).await.unwrap().is_some(), "the key is still its owner's");
    }
    assert!(entries(&place).iter().all(|entry| entry != "never"));
}

/// Reserves, and completes with a note; whatever becomes of the others in its group, this one has to succeed, since it
/// is sent again like any operation that had no effect.
async fn noted(store: SqliteStore, name: String) {
    let (owner, _, _) = reserved(&store, &key(&name)).await;
    loop {
        let entry = name.clone();
        let step = move |connection: &Connection| note(connection, &entry);
        match store.complete_with(&key(&name), owner, DAY, step).await {
            Ok(Transacted::Completed(1)) => return,
            Err(error) => assert_eq!(error.effect, Effect::NotApplied, "{error:?}"),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

async fn granted(engine: &Engine, name: &str) -> Reservation {
    match engine.reserve(&key(name), &Fingerprint::of(["payload"])).await.unwrap() {
        Admission::Granted(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reservation_is_completed_with_its_effect_and_its_waiters_are_given_the_answer() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let wait = InFlightPolicy::Wait { at_most: LEASE };
    let engine = Engine::builder(store.clone()).in_flight(wait).build().unwrap();
    let reservation = granted(&engine, "a").await;
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.reserve(&key("a"), &Fingerprint::of(["payload"])).await.unwrap() }
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
        match engine.reserve(&key("a"), &Fingerprint::of(["payload"])).await.unwrap() {
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

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_many_callers_share_transactions_and_each_has_its_effect_once() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let callers: Vec<_> = (0..200)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = format!("{number:03}");
                let (owner, _, _) = reserved(&store, &key(&name)).await;
                let step = move |connection: &Connection| {
                    let done = note(connection, &name)?;
                    if number % 3 == 0 { Err(rusqlite::Error::InvalidQuery) } else { Ok(done) }
                };
                let ended = store.complete_with(&key(&format!("{number:03}")), owner, DAY, step).await;
                matches!(ended.unwrap(), Transacted::Completed(1))
            })
        })
        .collect();
    let mut expected = Vec::new();
    for (number, caller) in callers.into_iter().enumerate() {
        if caller.await.unwrap() {
            expected.push(format!("{number:03}"));
        }
    }
    let mut found = entries(&place);
    found.sort();
    assert_eq!(found.len(), 133);
    assert_eq!(found, expected);
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
