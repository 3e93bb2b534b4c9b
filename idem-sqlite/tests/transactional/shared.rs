//! Steps that share their transaction: what one does must not be another's loss.

use idem_core::store::OwnerToken;
use idem_core::{Answer, Effect, ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::{SqliteStore, Transacted};
use rusqlite::Connection;

use crate::support::{self, DAY, Place, is_replayed, key, reserved};
use crate::{entries, note, with_ledger};

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
        Ok::<_, rusqlite::Error>(((), StoredValue::bytes("noted").into()))
    };
    let error = store.complete_with(&key("a"), owner, DAY, step).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(entries(&place), [""; 0]);
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, Transacted::Completed(1));
    assert_eq!(entries(&place), ["a"]);
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
