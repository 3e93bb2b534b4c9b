//! Closing a store, and dropping its last handle.

use idem_core::StoreErrorKind;

use crate::support::{
    Directory, assert_no_effect, complete, completed, is_replayed, key, let_others_run, reserve, reserved,
    source_of,
};

#[tokio::test]
async fn a_closed_store_keeps_what_it_acknowledged_and_refuses_new_operations() {
    let directory = Directory::new();
    let store = directory.open().await;
    let owner = reserved(&store, &key("a")).await.owner;
    completed(&store, &key("a"), owner, "done").await;
    let clone = store.clone();
    store.close().await;
    for error in [
        reserve(&clone, &key("a"), owner).await.unwrap_err(),
        complete(&clone, &key("a"), owner, "done").await.unwrap_err(),
    ] {
        assert_no_effect(&error, StoreErrorKind::Unavailable);
        assert!(source_of(&error).contains("closed"));
    }
    // SQLite removes the log when the last connection is closed.
    assert!(!directory.log().exists());
    assert!(is_replayed(&directory.open().await, &key("a"), "done").await);
}

#[tokio::test]
async fn an_operation_that_is_queued_when_the_last_handle_is_dropped_still_runs() {
    let directory = Directory::new();
    let store = directory.open().await;
    let owner = reserved(&store, &key("a")).await.owner;
    let lock = directory.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The task owns the last handle. Its operation waits for the lock.
    let completing = tokio::spawn(async move { completed(&store, &key("a"), owner, "done").await });
    let_others_run().await;
    lock.execute_batch("COMMIT").unwrap();
    completing.await.unwrap();
    assert!(is_replayed(&directory.open().await, &key("a"), "done").await);
}

#[tokio::test]
async fn every_call_of_close_waits_until_the_store_is_closed() {
    let directory = Directory::new();
    let store = directory.open().await;
    let owner = reserved(&store, &key("a")).await.owner;
    let lock = directory.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let completing = tokio::spawn({
        let store = store.clone();
        async move { completed(&store, &key("a"), owner, "done").await }
    });
    tokio::task::yield_now().await;
    // The first call is aborted while the operation still waits for the lock.
    let closing = tokio::spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    tokio::task::yield_now().await;
    closing.abort();
    assert!(closing.await.unwrap_err().is_cancelled());
    let closing = tokio::spawn(async move { store.close().await });
    let_others_run().await;
    assert!(!closing.is_finished(), "the operation is still waiting");
    lock.execute_batch("COMMIT").unwrap();
    drop(lock);
    closing.await.unwrap();
    completing.await.unwrap();
    assert!(!directory.log().exists());
}
