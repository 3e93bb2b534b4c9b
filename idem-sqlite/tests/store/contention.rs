//! Other connections that lock the file or read an old snapshot, and queues that are full or slow.

use std::fs;
use std::path::Path;
use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::SqliteOptions;

use crate::support::{
    DAY, Directory, assert_no_effect, complete, completed, eventually, is_replayed, key, reserve, reserved,
    source_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_another_process_holds_the_lock_writes_fail_and_replays_succeed() {
    let directory = Directory::new();
    let options = SqliteOptions::new().busy_timeout(Duration::from_millis(50));
    let store = directory.open_with(options).await;
    let done = reserved(&store, &key("done")).await.owner;
    completed(&store, &key("done"), done, "answer").await;
    let running = reserved(&store, &key("running")).await.owner;

    let lock = directory.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for error in [
        reserve(&store, &key("new"), OwnerToken::random()).await.unwrap_err(),
        complete(&store, &key("running"), running, "answer").await.unwrap_err(),
    ] {
        assert_no_effect(&error, StoreErrorKind::Unavailable);
    }
    assert!(is_replayed(&store, &key("done"), "answer").await);
    let refused = reserve(&store, &key("running"), OwnerToken::random()).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }));

    lock.execute_batch("COMMIT").unwrap();
    completed(&store, &key("running"), running, "answer").await;
    assert_eq!(reserved(&store, &key("new")).await.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_waited_longer_than_queue_timeout_is_discarded_without_effect() {
    let directory = Directory::new();
    let store = directory.open_with(SqliteOptions::new().queue_timeout(Duration::from_nanos(1))).await;
    let error = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err();
    assert_no_effect(&error, StoreErrorKind::Timeout);
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let directory = Directory::new();
    let store = directory.open_with(SqliteOptions::new().queue_capacity(0)).await;
    let error = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err();
    assert_no_effect(&error, StoreErrorKind::Unavailable);
    assert!(source_of(&error).contains("queue_capacity"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_an_old_snapshot_blocks_nothing_and_the_log_is_written_back_after_it() {
    let directory = Directory::new();
    let options = SqliteOptions::new().maintenance_interval(Duration::from_millis(5));
    let store = directory.open_with(options).await;
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let (file, log) = (directory.file(), directory.log());
    let reader = directory.connection();
    reader.execute_batch("BEGIN").unwrap();
    let seen =
        || reader.query_row("SELECT count(*) FROM idem_record", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(seen(), 0);
    let answer = vec![b'x'; 4096];
    for number in 0..200 {
        let key = key(&format!("{number}"));
        let owner = reserved(&store, &key).await.owner;
        let completion = Completion::new(StoredValue::bytes(answer.clone()), span(DAY));
        assert_eq!(store.complete(&key, owner, completion).await.unwrap(), CompleteOutcome::Completed);
    }
    assert_eq!(seen(), 0, "the reader's snapshot");
    let all = 200 * 4096;
    assert!(length(&log) > all && length(&file) < all, "everything is in the log");
    reader.execute_batch("COMMIT").unwrap();
    // Maintenance writes it back; no operation has to.
    eventually(|| length(&file) >= all).await;
    drop(reader);
    store.close().await;
    assert!(!log.exists());
}
