//! Opening a store: which URLs, paths and files it accepts.

use std::fs;
use std::time::Duration;

use idem_core::{Operation, StoreError, StoreErrorKind};
use idem_sqlite::{SqliteOptions, SqliteStore};

use crate::support::{Directory, assert_no_effect, key, reserved, source_of};

#[track_caller]
fn assert_refused(result: Result<SqliteStore, StoreError>, kind: StoreErrorKind, says: &str) {
    let error = result.unwrap_err();
    assert_no_effect(&error, kind);
    assert_eq!(error.operation, Operation::Connect);
    let source = source_of(&error);
    assert!(source.contains(says), "{source}");
}

#[tokio::test]
async fn a_url_is_sqlite_and_a_path_and_a_refused_url_is_not_shown() {
    let directory = Directory::new();
    let url = format!("sqlite:{}", directory.file().display());
    let store = SqliteStore::connect(&url).await.unwrap();
    assert!(format!("{store:?}").contains("idem.db"));
    for url in ["", "sqlite:", "memory:", "postgres://user:secret@host/db"] {
        let error = SqliteStore::connect(url).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains("secret"));
    }
    assert_refused(
        SqliteStore::connect("sqlite::memory:").await,
        StoreErrorKind::Misconfigured,
        "idem-memory",
    );
}

#[tokio::test]
async fn a_url_with_a_host_or_a_query_is_refused_and_creates_no_file() {
    let directory = Directory::new();
    let path = directory.file().display().to_string();
    for url in [format!("sqlite:{path}?mode=rwc"), "sqlite://idem.db".to_owned()] {
        assert_refused(SqliteStore::connect(&url).await, StoreErrorKind::Misconfigured, "sqlite:/var/lib");
    }
    assert_eq!(fs::read_dir(directory.file().parent().unwrap()).unwrap().count(), 0);
    // An empty host is accepted.
    SqliteStore::connect(&format!("sqlite://{path}")).await.unwrap();
    assert!(directory.file().exists());
}

#[tokio::test]
async fn options_are_used_with_a_url() {
    let directory = Directory::new();
    let url = format!("sqlite:{}", directory.file().display());
    let store = SqliteStore::connect_with(&url, SqliteOptions::new().queue_capacity(0)).await.unwrap();
    let error = crate::support::reserve(&store, &key("a"), idem_core::store::OwnerToken::random()).await;
    assert_no_effect(&error.unwrap_err(), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn an_unlimited_busy_timeout_is_cut_to_what_sqlite_can_count() {
    let directory = Directory::new();
    let store = directory.open_with(SqliteOptions::new().busy_timeout(Duration::MAX)).await;
    for number in 0..100 {
        reserved(&store, &key(&format!("{number}"))).await;
    }
}

#[tokio::test]
async fn a_symbolic_link_is_checked_at_its_target() {
    let directory = Directory::new();
    let target = directory.file().with_file_name("missing").join("idem.db");
    std::os::unix::fs::symlink(target, directory.file()).unwrap();
    assert_refused(directory.try_open().await, StoreErrorKind::Misconfigured, "create it first");
}

#[tokio::test]
async fn a_missing_directory_and_a_path_that_is_a_directory_are_refused() {
    let directory = Directory::new();
    let missing = directory.file().join("x").join("idem.db");
    let opened = SqliteStore::open(missing, SqliteOptions::new()).await;
    assert_refused(opened, StoreErrorKind::Misconfigured, "create it first");
    fs::create_dir(directory.file()).unwrap();
    assert_refused(directory.try_open().await, StoreErrorKind::Misconfigured, "not a regular file");
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let directory = Directory::new();
    let text = "This is a letter, which is too long to be taken for an empty database. ".repeat(20);
    fs::write(directory.file(), &text).unwrap();
    assert_refused(directory.try_open().await, StoreErrorKind::Misconfigured, "not a SQLite database");
    assert_eq!(fs::read_to_string(directory.file()).unwrap(), text);
}

#[tokio::test]
async fn another_applications_database_is_refused_and_not_changed() {
    let directory = Directory::new();
    directory.connection().execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 7").unwrap();
    let before = fs::read(directory.file()).unwrap();
    assert_refused(directory.try_open().await, StoreErrorKind::Misconfigured, "another application's");
    assert_eq!(fs::read(directory.file()).unwrap(), before);
}

#[tokio::test]
async fn a_database_without_a_user_version_can_be_shared_with_the_application() {
    let directory = Directory::new();
    directory.connection().execute_batch("CREATE TABLE ledger (a); INSERT INTO ledger VALUES (1)").unwrap();
    let store = directory.open().await;
    reserved(&store, &key("a")).await;
    assert_eq!(directory.count("SELECT count(*) FROM ledger"), 1);
}

#[tokio::test]
async fn tables_of_a_later_release_are_incompatible_and_not_changed() {
    let directory = Directory::new();
    directory.open().await.close().await;
    directory.connection().execute_batch("PRAGMA user_version = 2").unwrap();
    assert_refused(directory.try_open().await, StoreErrorKind::Incompatible, "version 2");
    assert_eq!(directory.count("PRAGMA user_version"), 2);
}

#[tokio::test]
async fn incomplete_tables_are_corrupt_and_not_created_again() {
    for part in ["TABLE idem_meta", "TRIGGER idem_record_inserted", "INDEX idem_record_digest"] {
        let directory = Directory::new();
        directory.open().await.close().await;
        directory.connection().execute_batch(&format!("DROP {part}")).unwrap();
        assert_refused(directory.try_open().await, StoreErrorKind::Corrupt, "not all");
    }
}
