//! Steps that share a transaction: a step never loses its effect or its outcome because of another.

use idem_core::store::OwnerToken;
use idem_core::{Answer, Effect, ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::{SqliteOptions, SqliteStore, TransactionOutcome};
use rusqlite::Connection;

use super::{entries, note, with_ledger};
use crate::support::{
    self, DAY, Directory, assert_no_effect, is_replayed, key, let_others_run, reserved, source_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_many_callers_share_transactions_and_each_has_its_effect_once() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let callers: Vec<_> = (0..200)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                let name = format!("{number:03}");
                let owner = reserved(&store, &key(&name)).await.owner;
                let step = move |connection: &Connection| {
                    let done = note(connection, &name)?;
                    if number % 3 == 0 { Err(rusqlite::Error::InvalidQuery) } else { Ok(done) }
                };
                let ended = store.complete_with(&key(&format!("{number:03}")), owner, DAY, step).await;
                matches!(ended.unwrap(), TransactionOutcome::Completed(1))
            })
        })
        .collect();
    let mut expected = Vec::new();
    for (number, caller) in callers.into_iter().enumerate() {
        if caller.await.unwrap() {
            expected.push(format!("{number:03}"));
        }
    }
    let mut found = entries(&directory);
    found.sort();
    assert_eq!(found.len(), 133);
    assert_eq!(found, expected);
}

/// `OR ROLLBACK`, and constraints that are checked at the commit, roll back the whole transaction.
#[tokio::test]
async fn a_step_that_rolls_back_the_transaction_fails_alone_and_says_why() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    directory
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
        let lock = directory.connection();
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
            Ok(TransactionOutcome::RolledBack(error)) => assert!(error.to_string().contains(says), "{error}"),
            Err(error) => {
                assert_eq!(error.effect, Effect::NotApplied);
                let source = source_of(&error);
                assert!(source.contains(says) || source.contains("ended the transaction"), "{source}");
            }
            Ok(other) => panic!("{other:?}"),
        }
        for noted in [first, before, after] {
            noted.await.unwrap();
        }
        assert!(store.get(&key(says)).await.unwrap().is_some(), "the owner still has the key");
    }
    assert!(entries(&directory).iter().all(|entry| entry != "never"));
}

/// A statement can roll back the transaction, and the step can ignore that. What it writes afterwards must not stay.
#[tokio::test]
async fn a_step_that_continues_after_a_rollback_has_no_effect() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let unique = "CREATE TABLE account (id INTEGER PRIMARY KEY) STRICT; INSERT INTO account VALUES (1)";
    directory.connection().execute_batch(unique).unwrap();
    let owner = reserved(&store, &key("a")).await.owner;
    let step = |connection: &Connection| {
        let _ = connection.execute("INSERT OR ROLLBACK INTO account VALUES (1)", []);
        let _ = note(connection, "outside");
        let _ = connection.execute_batch("SAVEPOINT own; INSERT INTO ledger VALUES ('within'); RELEASE own");
        Ok::<_, rusqlite::Error>(((), StoredValue::bytes("noted").into()))
    };
    let error = store.complete_with(&key("a"), owner, DAY, step).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert_eq!(entries(&directory), [""; 0]);
    let done = store.complete_with(&key("a"), owner, DAY, |connection| note(connection, "a")).await.unwrap();
    assert_eq!(done, TransactionOutcome::Completed(1));
    assert_eq!(entries(&directory), ["a"]);
}

/// A step that failed has had no effect, whether or not its transaction is committed, so its caller gets its error.
#[tokio::test]
async fn a_steps_error_or_panic_is_reported_even_if_another_step_rolls_back() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let unique = "CREATE TABLE account (id INTEGER PRIMARY KEY) STRICT; INSERT INTO account VALUES (1)";
    directory.connection().execute_batch(unique).unwrap();
    let mut owners = Vec::new();
    for name in ["declining", "panicking", "undoing"] {
        owners.push(reserved(&store, &key(name)).await.owner);
    }
    let lock = directory.connection();
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
    let panicking = run("panicking", owners[1], |_| panic!("the step's message"));
    let undoing = run("undoing", owners[2], |connection| {
        let sql = "INSERT OR ROLLBACK INTO account VALUES (1)";
        connection.execute(sql, []).map_err(|error| error.to_string())?;
        note(connection, "never").map_err(|error| error.to_string())
    });
    let_others_run().await;
    lock.execute_batch("COMMIT").unwrap();
    first.await.unwrap();
    assert!(
        matches!(undoing.await.unwrap().unwrap(), TransactionOutcome::RolledBack(error) if error.contains("UNIQUE"))
    );
    assert_eq!(declining.await.unwrap().unwrap(), TransactionOutcome::RolledBack("declined".to_owned()));
    let panic = panicking.await.unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the step's message");
}

/// A step that shared its transaction with one that rolled it back can run again.
#[tokio::test]
async fn a_step_that_was_rolled_back_with_another_says_so_and_can_run_again() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let guilty = reserved(&store, &key("guilty")).await.owner;
    let innocent = reserved(&store, &key("innocent")).await.owner;
    let innocently = |store: SqliteStore| async move {
        let step = |connection: &Connection| note(connection, "innocent");
        store.complete_with(&key("innocent"), innocent, DAY, step).await
    };
    // While the lock is held, they gather in one group or two.
    let lock = directory.connection();
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
    assert!(matches!(undoing.await.unwrap(), Ok(TransactionOutcome::RolledBack(_))));
    let done = match sharing.await.unwrap() {
        Err(error) => {
            assert_no_effect(&error, StoreErrorKind::Unavailable);
            assert!(source_of(&error).contains("run it again"));
            innocently(store).await.unwrap()
        }
        Ok(done) => done,
    };
    assert_eq!(done, TransactionOutcome::Completed(1));
    let mut found = entries(&directory);
    found.sort();
    assert_eq!(found, ["innocent", "leader"]);
}

/// Its caller is gone, so the writer drops it.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_does_not_end_the_writer() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
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
    assert_eq!(entries(&directory), ["a"]);
}

/// Reserves a key and completes it with a note. If another step rolls back the transaction, it runs again.
async fn noted(store: SqliteStore, name: String) {
    let owner = reserved(&store, &key(&name)).await.owner;
    loop {
        let entry = name.clone();
        let step = move |connection: &Connection| note(connection, &entry);
        match store.complete_with(&key(&name), owner, DAY, step).await {
            Ok(TransactionOutcome::Completed(1)) => return,
            Err(error) => assert_eq!(error.effect, Effect::NotApplied, "{error:?}"),
            Ok(other) => panic!("{other:?}"),
        }
    }
}
