//! Opening: what is a place for a store, and what is left alone.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod support;

use std::error::Error;
use std::fs;
use std::time::Duration;

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use idem_sqlite::{Options, SqliteStore};

use crate::support::{Place, complete, completed, is_replayed, key, reserved};

fn refused(result: Result<SqliteStore, StoreError>, kind: StoreErrorKind, says: &str) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.kind, error.effect, error.operation),
        (kind, Effect::NotApplied, Operation::Connect),
        "{error:?}"
    );
    let source = error.source().unwrap().to_string();
    assert!(source.contains(says), "{source}");
}

#[tokio::test]
async fn a_url_is_sqlite_and_a_path_and_no_other_url_is_shown() {
    let place = Place::new();
    let store = SqliteStore::connect(&format!("sqlite:{}", place.file().display())).await.unwrap();
    assert!(format!("{store:?}").contains("idem.db"));
    for url in ["", "sqlite:", "memory:", "postgres://user:secret@host/db"] {
        let error = SqliteStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains("secret"));
    }
    refused(SqliteStore::connect("sqlite::memory:").await, StoreErrorKind::Misconfigured, "idem-memory");
}

#[tokio::test]
async fn a_url_with_a_host_or_a_query_is_refused_and_makes_no_file() {
    let place = Place::new();
    let path = place.file().display().to_string();
    for url in [format!("sqlite:{path}?mode=rwc"), "sqlite://idem.db".to_owned()] {
        refused(SqliteStore::connect(&url).await, StoreErrorKind::Misconfigured, "sqlite:/var/lib");
    }
    assert_eq!(fs::read_dir(place.file().parent().unwrap()).unwrap().count(), 0);
    // A host may also be left empty.
    SqliteStore::connect(&format!("sqlite://{path}")).await.unwrap();
    assert!(place.file().exists());
}

#[tokio::test]
async fn a_patience_without_end_is_as_long_as_sqlite_can_wait() {
    let place = Place::new();
    let store = place.open_with(Options::new().busy_timeout(Duration::MAX)).await.unwrap();
    for number in 0..100 {
        reserved(&store, &key(&format!("{number}"))).await;
    }
}

#[tokio::test]
async fn a_link_is_judged_by_the_place_that_it_leads_to() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.file().with_file_name("missing").join("idem.db"), place.file()).unwrap();
    refused(place.open_with(Options::new()).await, StoreErrorKind::Misconfigured, "create it first");
}

#[tokio::test]
async fn a_missing_directory_and_a_directory_in_the_files_place_are_refused() {
    let place = Place::new();
    let missing = SqliteStore::open(place.file().join("x").join("idem.db"), Options::new()).await;
    refused(missing, StoreErrorKind::Misconfigured, "create it first");
    fs::create_dir(place.file()).unwrap();
    refused(place.open_with(Options::new()).await, StoreErrorKind::Misconfigured, "not a regular file");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let text =
        "This is a letter, and it is long enough that nobody takes it for an empty database. ".repeat(20);
    fs::write(place.file(), &text).unwrap();
    refused(place.open_with(Options::new()).await, StoreErrorKind::Misconfigured, "not a SQLite database");
    assert_eq!(fs::read_to_string(place.file()).unwrap(), text);
}

#[tokio::test]
async fn another_applications_database_is_refused_and_left_as_it_was() {
    let place = Place::new();
    place.connection().execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 7").unwrap();
    let before = fs::read(place.file()).unwrap();
    refused(place.open_with(Options::new()).await, StoreErrorKind::Misconfigured, "another application's");
    assert_eq!(fs::read(place.file()).unwrap(), before);
}

#[tokio::test]
async fn a_database_without_a_version_of_its_own_may_be_shared_with_the_service() {
    let place = Place::new();
    place.connection().execute_batch("CREATE TABLE ledger (a); INSERT INTO ledger VALUES (1)").unwrap();
    let store = place.open().await;
    reserved(&store, &key("a")).await;
    let rows: i32 =
        place.connection().query_row("SELECT count(*) FROM ledger", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn tables_of_a_later_release_are_incompatible_and_left_as_they_were() {
    let place = Place::new();
    place.open().await.close().await;
    place.connection().execute_batch("PRAGMA user_version = 2").unwrap();
    refused(place.open_with(Options::new()).await, StoreErrorKind::Incompatible, "version 2");
    let version: i32 = place.connection().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[tokio::test]
async fn half_of_the_tables_are_corrupt_and_not_made_anew() {
    for half in ["TABLE idem_meta", "TRIGGER idem_record_inserted", "INDEX idem_record_digest"] {
        let place = Place::new();
        place.open().await.close().await;
        place.connection().execute_batch(&format!("DROP {half}")).unwrap();
        refused(place.open_with(Options::new()).await, StoreErrorKind::Corrupt, "not all");
    }
}

#[tokio::test]
async fn a_closed_store_keeps_what_it_acknowledged_and_takes_nothing_more() {
    let place = Place::new();
    let store = place.open().await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    completed(&store, &key("a"), owner, "done").await;
    let clone = store.clone();
    store.close().await;
    for error in [
        support::reserve(&clone, &key("a"), owner).await.unwrap_err(),
        complete(&clone, &key("a"), owner, "done").await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
        assert!(error.source().unwrap().to_string().contains("closed"));
    }
    // Nothing holds the file any more: not even its log is left.
    assert!(!place.file().with_file_name("idem.db-wal").exists());
    assert!(is_replayed(&place.open().await, &key("a"), "done").await);
}

#[tokio::test]
async fn what_is_queued_when_the_last_handle_is_dropped_is_still_done() {
    let place = Place::new();
    let store = place.open().await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let lock = place.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let completing = tokio::spawn(async move { completed(&store, &key("a"), owner, "done").await });
    // The task owns the last handle; it ends with the operation, which waits for the lock.
    tokio::time::sleep(Duration::from_millis(20)).await;
    lock.execute_batch("COMMIT").unwrap();
    completing.await.unwrap();
    assert!(is_replayed(&place.open().await, &key("a"), "done").await);
}

#[tokio::test]
async fn everybody_who_closes_a_store_waits_until_it_is_closed() {
    let place = Place::new();
    let store = place.open().await;
    let (owner, _, _) = reserved(&store, &key("a")).await;
    let lock = place.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let completing = tokio::spawn({
        let store = store.clone();
        async move { completed(&store, &key("a"), owner, "done").await }
    });
    tokio::task::yield_now().await;
    // The first goes away in the midst of it; the operation still waits for the lock.
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    tokio::task::yield_now().await;
    closing.abort();
    assert!(closing.await.unwrap_err().is_cancelled());
    let closing = tokio::spawn(async move { store.close().await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!closing.is_finished(), "the operation is still waiting");
    lock.execute_batch("COMMIT").unwrap();
    drop(lock);
    closing.await.unwrap();
    completing.await.unwrap();
    assert!(!place.file().with_file_name("idem.db-wal").exists());
}
