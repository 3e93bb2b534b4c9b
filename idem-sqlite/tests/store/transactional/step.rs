//! What a step may do with the connection, and what it cannot.

use idem_core::store::OwnerToken;
use idem_core::{ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::{SqliteOptions, TransactionOutcome};
use rusqlite::Connection;
use rusqlite::hooks::{AuthContext, Authorization};

use super::{entries, note, with_ledger};
use crate::support::{DAY, Directory, assert_no_effect, is_replayed, key, reserved};

#[tokio::test]
async fn a_step_cannot_end_the_transaction_or_change_the_connection() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
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
        let owner = reserved(&store, &name).await.owner;
        let step = move |connection: &Connection| {
            let (rows, answer) = note(connection, "kept")?;
            let batch = connection.execute_batch(sql).unwrap_err();
            // The connection keeps the store's own statements prepared; using one of those is denied too.
            let kept = connection.prepare_cached(sql).and_then(|mut kept| kept.raw_execute()).unwrap_err();
            for denied in [batch, kept] {
                assert!(denied.to_string().contains("not authorized"), "{sql}: {denied}");
            }
            Ok::<_, rusqlite::Error>((rows, answer))
        };
        assert_eq!(
            store.complete_with(&name, owner, DAY, step).await.unwrap(),
            TransactionOutcome::Completed(1)
        );
    }
    assert_eq!(entries(&directory).len(), 7);
}

#[tokio::test]
async fn a_step_cannot_write_the_stores_own_tables() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
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
    assert_eq!(done, TransactionOutcome::Completed(1));
}

#[tokio::test]
async fn a_step_cannot_replace_the_stores_tables() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
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
    assert_eq!(done, TransactionOutcome::Completed(1));
    assert!(is_replayed(&store, &key("a"), "noted").await);
}

/// A renamed temporary table changes nothing, because the store names its tables with their schema.
#[tokio::test]
async fn a_temporary_table_never_hides_a_table_of_the_store() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let step = |connection: &Connection| {
        connection.execute_batch(
            "CREATE TEMP TABLE other (id, digest, expires_at, key, record);
             ALTER TABLE temp.other RENAME TO idem_record",
        )?;
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, TransactionOutcome::Completed(1));
    assert!(is_replayed(&store, &key("a"), "noted").await);
    assert!(is_replayed(&directory.open().await, &key("a"), "noted").await);
}

#[tokio::test]
async fn hooks_that_a_step_sets_on_the_connection_end_with_it() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let install: [fn(&Connection) -> rusqlite::Result<()>; 3] = [
        |connection| {
            let mut calls = 0;
            // A step can limit its own run time like this.
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
        let owner = reserved(&store, &name).await.owner;
        let step = move |connection: &Connection| {
            let done = note(connection, "noted")?;
            install(connection)?;
            Ok::<_, rusqlite::Error>(done)
        };
        assert_eq!(
            store.complete_with(&name, owner, DAY, step).await.unwrap(),
            TransactionOutcome::Completed(1)
        );
        for other in 0..10 {
            reserved(&store, &key(&format!("{number} {other}"))).await;
        }
    }
}

#[tokio::test]
async fn a_step_can_write_a_table_with_a_full_text_index() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    directory.connection().execute_batch("CREATE VIRTUAL TABLE words USING fts5(word)").unwrap();
    let owner = reserved(&store, &key("a")).await.owner;
    let step = |connection: &Connection| {
        connection.execute("INSERT INTO words VALUES ('a word')", [])?;
        let select = "SELECT count(*) FROM words WHERE words MATCH 'word'";
        let found: u32 = connection.query_row(select, [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>((found, StoredValue::bytes("noted").into()))
    };
    assert_eq!(
        store.complete_with(&key("a"), owner, DAY, step).await.unwrap(),
        TransactionOutcome::Completed(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_its_own_store_is_refused_and_nothing_hangs() {
    let directory = Directory::new();
    let store = with_ledger(&directory, SqliteOptions::new()).await;
    let owner = reserved(&store, &key("a")).await.owner;
    let (inner, runtime) = (store.clone(), tokio::runtime::Handle::current());
    let step = move |connection: &Connection| {
        let error = runtime.block_on(inner.release(&key("b"), OwnerToken::random())).unwrap_err();
        assert_no_effect(&error, StoreErrorKind::Misconfigured);
        // A read is allowed.
        assert!(runtime.block_on(inner.get(&key("a"))).unwrap().is_some());
        note(connection, "a")
    };
    let done = store.complete_with(&key("a"), owner, DAY, step).await.unwrap();
    assert_eq!(done, TransactionOutcome::Completed(1));
}
