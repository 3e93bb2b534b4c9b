//! When expired records are removed.

#![cfg(not(shuttle))]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use idem_conformance::span;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{CompleteOutcome, Fingerprint, Key, RenewOutcome, ReservationStore, StoredValue};
use idem_memory::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);

fn key(name: u32) -> Key {
    Key::new("scope", name.to_be_bytes()).unwrap()
}

/// Reserves a key whose record expires after two `lease`s, and returns its owner.
async fn reserve(store: &MemoryStore, name: u32, lease: Duration) -> OwnerToken {
    let owner = OwnerToken::random();
    let request =
        ReserveRequest::new(owner, Fingerprint::from_parts(["f"]), span(lease)).record_ttl(span(lease));
    let outcome = store.reserve(&key(name), request).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { .. }), "{outcome:?}");
    owner
}

#[tokio::test(start_paused = true)]
async fn a_sweep_honours_its_limit_and_keeps_live_records() {
    let store = MemoryStore::new();
    for name in 0..3000 {
        reserve(&store, name, if name % 3 == 0 { 100 * MINUTE } else { MINUTE }).await;
    }
    assert_eq!(store.sweep(usize::MAX).await.unwrap(), 0, "nothing is expired");
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(store.sweep(0).await.unwrap(), 0);
    assert_eq!(store.sweep(1).await.unwrap(), 1);
    assert_eq!(store.sweep(700).await.unwrap(), 700);
    assert_eq!(store.sweep(usize::MAX).await.unwrap(), 1299);
    assert_eq!((store.sweep(usize::MAX).await.unwrap(), store.records()), (0, 1000));
}

#[tokio::test(start_paused = true)]
async fn a_renewed_record_is_removed_at_its_new_expiry() {
    let store = MemoryStore::new();
    let owner = reserve(&store, 1, MINUTE).await;
    let renewed = store.renew(&key(1), owner, span(10 * MINUTE)).await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    tokio::time::advance(11 * MINUTE - Duration::from_millis(1)).await;
    assert_eq!(store.sweep(1).await.unwrap(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(store.sweep(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_short_retention_is_removed_when_it_ends() {
    let store = MemoryStore::new();
    let owner = reserve(&store, 1, 100 * MINUTE).await;
    let completion = Completion::new(StoredValue::bytes("x"), span(MINUTE));
    assert_eq!(store.complete(&key(1), owner, completion).await.unwrap(), CompleteOutcome::Completed);
    tokio::time::advance(MINUTE - Duration::from_millis(1)).await;
    assert_eq!(store.sweep(1).await.unwrap(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(store.sweep(1).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_sweep_lets_other_tasks_run() {
    let store = MemoryStore::new();
    for name in 0..3000 {
        reserve(&store, name, MINUTE).await;
    }
    tokio::time::advance(2 * MINUTE).await;
    let records_meanwhile = async {
        tokio::task::yield_now().await;
        store.records()
    };
    let (removed, meanwhile) = tokio::join!(store.sweep(usize::MAX), records_meanwhile);
    assert_eq!(removed.unwrap(), 3000);
    assert!((1..3000).contains(&meanwhile), "{meanwhile} records were left when another task ran");
}
