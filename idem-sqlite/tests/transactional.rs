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
use rusqlite::hooks::{AuthContext, Authorization};

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

#[tokio::test]
async fn a_step_cannot_put_anything_in_the_place_of_the_stores_tables() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| {
        for sql in [
            "CREATE TABLE idem_more (a)",
            "CREATE TEMP TABLE idem_record (id, digest, expires_at, key, record)",
            "CREATE TEMP TABLE idem_meta AS SELECT 1 AS id, 0 AS removed_fence",
            "CREATE TEMP VIEW idem_record AS SELECT 1",
            "CREATE VIEW idem_view AS SELECT 1",
            "CREATE VIRTUAL TABLE temp.idem_meta USING fts5(removed_fence)",
            "CREATE TEMP TRIGGER t AFTER UPDATE ON main.idem_record BEGIN DELETE FROM ledger; END",
        ] {
            let denied = connection.execute_batch(sql).unwrap_err();
            assert!(denied.to_string().contains("not authorized"), "{sql}: {denied}");
        }
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert!(is_replayed(&store, &key("a"), "noted").await);
}

/// A table that was renamed is in nobody's way: the store names its tables with their schema.
#[tokio::test]
async fn a_temporary_table_of_the_same_name_is_never_taken_for_the_stores() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| {
        connection.execute_batch(
            "CREATE TEMP TABLE other (id, digest, expires_at, key, record);
             ALTER TABLE temp.other RENAME TO idem_record",
        )?;
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert!(is_replayed(&store, &key("a"), "noted").await);
    assert!(is_replayed(&place.open().await, &key("a"), "noted").await);
}

#[tokio::test]
async fn what_a_step_installs_on_the_connection_ends_with_it() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let install: [fn(&Connection) -> rusqlite::Result<()>; 3] = [
        |connection| {
            let mut calls = 0;
            // As a step does that bounds how long it runs: it may go on for a while, and then not any more.
            let is_over = move || {
                calls += 1;
                calls > 100
            };
            connection.progress_handler(1, Some(is_over))
        },
        |connection| connection.commit_hook(Some(|| true)),
        |connection| connection.authorizer(Some(|_: AuthContext<'_>| Authorization::Deny)),
    ];
    for (number, install) in install.into_iter().enumerate() {
        let name = key(&format!("{number}"));
        let (owner, _, _) = reserved(&store, &name).await;
        let step = move |connection: &Connection| {
            let done = note(connection, "noted")?;
            install(connection)?;
            Ok::<_, rusqlite::Error>(done)
        };
        assert_eq!(store.complete_with(&name, owner, DAY, step).await.unwrap(), Transacted::Completed(1));
        for other in 0..10 {
            reserved(&store, &key(&format!("{number} {other}"))).await;
        }
    }
}

#[tokio::test]
async fn a_step_can_write_a_table_with_a_full_text_index() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    place.connection().execute_batch("CREATE VIRTUAL TABLE words USING fts5(word)").unwrap();
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| {
        connection.execute("INSERT INTO words VALUES ('a word')", [])?;
        let select = "SELECT count(*) FROM words WHERE words MATCH 'word'";
        let found: u32 = connection.query_row(select, [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>((found, Response::bytes("noted").into()))
    };
    assert_eq!(store.complete_with(&key("a"), owner, DAY, step).await.unwrap(), Transacted::Completed(1));
}

/// Who declined or panicked has had no effect whatever becomes of the transaction, and is owed its own words.
#[tokio::test]
async fn an_error_and_a_panic_of_a_step_are_told_also_if_another_step_undoes_the_transaction() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let unique = "CREATE TABLE account (id INTEGER PRIMARY KEY) STRICT; INSERT INTO account VALUES (1)";
    place.connection().execute_batch(unique).unwrap();
    let mut owners = Vec::new();
    for name in ["declining", "panicking", "undoing"] {
        owners.push(reserved(&store, &key(name)).await.0);
    }
    let lock = place.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer waits for the lock with the first of these, and takes the others as one group.
    let run = |name: &'static str, owner, step: fn(&Connection) -> Result<(usize, Answer), String>| {
        let store = store.clone();
        tokio::spawn(async move { store.complete_with(&key(name), owner, DAY, step).await })
    };
    let first = tokio::spawn({
        let store = store.clone();
        async move { reserved(&store, &key("first")).await }
    });
    tokio::task::yield_now().await;
    let declining = run("declining", owners[0], |_| Err("declined".to_owned()));
    let panicking = run("panicking", owners[1], |_| panic!("the step's own words"));
    let undoing = run("undoing", owners[2], |connection| {
        let sql = "INSERT OR ROLLBACK INTO account VALUES (1)";
        connection.execute(sql, []).map_err(|error| error.to_string())?;
        note(connection, "never").map_err(|error| error.to_string())
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    lock.execute_batch("COMMIT").unwrap();
    first.await.unwrap();
    assert!(
        matches!(undoing.await.unwrap().unwrap(), Transacted::RolledBack(error) if error.contains("UNIQUE"))
    );
    assert_eq!(declining.await.unwrap().unwrap(), Transacted::RolledBack("declined".to_owned()));
    let panic = panicking.await.unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the step's own words");
}

/// Nobody waits for this value any more, so that it is the writer who drops it.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_does_not_end_the_writer() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let completing = tokio::spawn({
        let store = store.clone();
        async move {
            let step = move |connection: &Connection| {
                began.send(()).unwrap();
                may_go_on.recv().unwrap();
                let (_, answer) = note(connection, "a")?;
                Ok::<_, rusqlite::Error>((PanicsWhenDropped, answer))
            };
            store.complete_with(&key("a"), owner, DAY, step).await.map(|_| ())
        }
    });
    has_begun.await.unwrap();
    completing.abort();
    assert!(completing.await.unwrap_err().is_cancelled());
    go_on.send(()).unwrap();
    reserved(&store, &key("b")).await;
    assert!(is_replayed(&store, &key("a"), "noted").await);
    assert_eq!(entries(&place), ["a"]);
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

/// A statement may undo the transaction, and the step may not mind: what it writes after that has nothing to be in.
#[tokio::test]
async fn a_step_that_goes_on_after_its_transaction_was_undone_has_no_effect() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let unique = "CREATE TABLE account (id INTEGER PRIMARY KEY) STRICT; INSERT INTO account VALUES (1)";
    place.connection().execute_batch(unique).unwrap();
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let step = |connection: &Connection| {
        let _ = connection.execute("INSERT OR ROLLBACK INTO account VALUES (1)", []);
        let _ = note(connection, "beside");
        let _ = connection.execute_batch("SAVEPOINT own; INSERT INTO ledger VALUES ('within'); RELEASE own");
        Ok::<_, rusqlite::Error>(((), Response::bytes("noted").into()))
    };
    let error = store.complete_with(&key("a"), owner, DAY, step).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(entries(&place), [""; 0]);
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert_eq!(entries(&place), ["a"]);
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

/// Whoever shares a transaction with a step that undoes it has done nothing wrong, and is to send its own again.
#[tokio::test]
async fn a_step_that_shared_its_transaction_with_one_that_undid_it_is_told_so_and_may_be_sent_again() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (guilty, _, _) = reserved(&store, &key("guilty")).await;
    let (innocent, _, _) = reserved(&store, &key("innocent")).await;
    let innocently = |store: SqliteStore| async move {
        let step = |connection: &Connection| note(connection, "innocent");
        store.complete_with(&key("innocent"), innocent, DAY, step).await
    };
    // The lock gathers all of them in one group, or two.
    let lock = place.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let leading = tokio::spawn(noted(store.clone(), "leader".to_owned()));
    tokio::task::yield_now().await;
    let sharing = tokio::spawn(innocently(store.clone()));
    tokio::task::yield_now().await;
    let undoing = tokio::spawn({
        let store = store.clone();
        async move {
            let step = |connection: &Connection| {
                connection.execute_batch("CREATE TABLE one (id INTEGER PRIMARY KEY)")?;
                connection.execute_batch("INSERT OR ROLLBACK INTO one VALUES (1), (1)")?;
                note(connection, "never")
            };
            store.complete_with(&key("guilty"), guilty, DAY, step).await
        }
    });
    tokio::task::yield_now().await;
    lock.execute_batch("COMMIT").unwrap();
    leading.await.unwrap();
    assert!(matches!(undoing.await.unwrap(), Ok(Transacted::RolledBack(_))));
    let done = match sharing.await.unwrap() {
        Err(error) => {
            assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
            assert!(std::error::Error::source(&error).unwrap().to_string().contains("run it again"));
            innocently(store).await.unwrap()
        }
        Ok(done) => done,
    };
    assert_eq!(done, Transacted::Completed(1));
    let mut found = entries(&place);
    found.sort();
    assert_eq!(found, ["innocent", "leader"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_its_own_store_is_refused_and_hangs_nobody() {
    let place = Place::new();
    let store = with_ledger(&place).await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let (inner, runtime) = (store.clone(), tokio::runtime::Handle::current());
    let step = move |connection: &Connection| {
        let error = runtime.block_on(inner.release(&key("b"), OwnerToken::random())).unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
        // Looking is no writing.
        assert!(runtime.block_on(inner.get(&key("a"))).unwrap().is_some());
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
}
