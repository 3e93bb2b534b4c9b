//! What a full store does, and how it gets room again.

#![cfg(not(shuttle))]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use idem_conformance::span;
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    CompleteOutcome, Effect, Fingerprint, Key, ReleaseOutcome, ReservationStore, StoreErrorKind, StoredValue,
};
use idem_memory::{MemoryOptions, MemoryStore};

const MINUTE: Duration = Duration::from_secs(60);

fn key(name: u32) -> Key {
    Key::new("scope", name.to_be_bytes()).unwrap()
}

fn token(number: u8) -> OwnerToken {
    OwnerToken::from_bytes([number; 16])
}

fn ask(owner: u8) -> ReserveRequest {
    ReserveRequest::new(token(owner), Fingerprint::from_parts(["f"]), span(MINUTE)).record_ttl(span(MINUTE))
}

fn answer(bytes: impl Into<Bytes>) -> Completion {
    Completion::new(StoredValue::bytes(bytes), span(MINUTE))
}

async fn must_reserve(store: &MemoryStore, name: u32, owner: u8) {
    let outcome = store.reserve(&key(name), ask(owner)).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { .. }), "{outcome:?}");
}

async fn must_complete(store: &MemoryStore, name: u32, owner: u8, bytes: impl Into<Bytes>) {
    let outcome = store.complete(&key(name), token(owner), answer(bytes)).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
}

async fn is_full(store: &MemoryStore, name: u32) -> bool {
    match store.reserve(&key(name), ask(1)).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied));
            true
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_store_refuses_new_keys_and_serves_the_ones_it_has() {
    let store = MemoryStore::with_options(MemoryOptions::new().max_records(2));
    assert!(!is_full(&store, 1).await && !is_full(&store, 2).await);
    assert!(is_full(&store, 3).await);
    let refused = store.release(&key(3), token(1)).await.unwrap_err();
    assert_eq!((refused.kind, refused.effect), (StoreErrorKind::Full, Effect::NotApplied));
    assert_eq!(store.complete(&key(3), token(1), answer("x")).await.unwrap(), CompleteOutcome::Lost);

    must_complete(&store, 1, 1, "x").await;
    assert!(matches!(store.reserve(&key(1), ask(2)).await.unwrap(), ReserveOutcome::Completed { .. }));
    assert_eq!(store.release(&key(2), token(1)).await.unwrap(), ReleaseOutcome::Released);
    assert!(matches!(store.reserve(&key(2), ask(2)).await.unwrap(), ReserveOutcome::Reserved { .. }));
    assert_eq!(store.records(), 2);
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_exactly_and_bound_new_keys_but_no_completion() {
    let each = MemoryOptions::RECORD_BYTES + key(1).as_bytes().len() as u64;
    let store = MemoryStore::with_options(MemoryOptions::new().max_bytes(3 * each));
    assert!(!is_full(&store, 1).await && !is_full(&store, 2).await);
    assert_eq!(store.bytes(), 2 * each);
    must_complete(&store, 1, 1, vec![0; 10_000]).await;
    assert_eq!(store.bytes(), 2 * each + 10_000);
    assert!(is_full(&store, 3).await);
    must_complete(&store, 2, 1, vec![0; 10_000]).await;
    assert_eq!(store.bytes(), 2 * each + 20_000);

    tokio::time::advance(2 * MINUTE).await;
    must_reserve(&store, 1, 2).await;
    assert_eq!((store.records(), store.bytes()), (2, 2 * each + 10_000), "the next life has no answer yet");
    assert_eq!(store.sweep(usize::MAX).await.unwrap(), 1);
    assert_eq!((store.records(), store.bytes()), (1, each));
}

#[tokio::test(start_paused = true)]
async fn a_store_full_of_expired_records_takes_new_keys_at_once() {
    let store = MemoryStore::with_options(MemoryOptions::new().max_records(20_000));
    for name in 0..20_000 {
        assert!(!is_full(&store, name).await);
    }
    assert!(is_full(&store, 1_000_000).await);
    tokio::time::advance(2 * MINUTE).await;
    for name in 0..20_000 {
        assert!(!is_full(&store, 1_000_000 + name).await);
    }
    assert!(is_full(&store, 2_000_000).await);
    assert_eq!(store.records(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn insertions_alone_keep_garbage_below_a_third_of_what_lives() {
    // Every record lives for 120 steps of a second, and each second brings 100 new keys.
    let store = MemoryStore::new();
    for name in 0..100_000 {
        must_reserve(&store, name, 1).await;
        if name % 100 == 0 {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
    let live = 11_999;
    assert!((live..live * 4 / 3).contains(&store.records()), "{}", store.records());
}

#[tokio::test]
async fn an_answer_above_the_limit_is_refused_and_nothing_is_written() {
    let store = MemoryStore::with_options(MemoryOptions::new().max_answer_bytes(10));
    must_reserve(&store, 1, 1).await;
    let before = store.bytes();
    let error = store.complete(&key(1), token(1), answer(vec![0; 11])).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::TooLarge, Effect::NotApplied));
    assert!(matches!(store.get(&key(1)).await.unwrap().unwrap().state, StateView::InFlight { .. }));
    assert_eq!(store.bytes(), before);
    must_complete(&store, 1, 1, vec![0; 10]).await;
}
