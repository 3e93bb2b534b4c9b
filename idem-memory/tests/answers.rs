//! Who owns the bytes of an answer, and when they are dropped.

#![cfg(not(shuttle))]
#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use idem_conformance::span;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{Answer, CompleteOutcome, Fingerprint, Key, ReservationStore, StoredValue};
use idem_memory::MemoryStore;

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

#[tokio::test]
async fn a_replay_shares_the_bytes_of_the_first_answer() {
    let store = MemoryStore::new();
    let body = Bytes::from(vec![7; 1000]);
    must_reserve(&store, 1, 1).await;
    must_complete(&store, 1, 1, body.clone()).await;
    let ReserveOutcome::Completed { answer: Answer::Value(replayed), .. } =
        store.reserve(&key(1), ask(2)).await.unwrap()
    else {
        panic!("not completed");
    };
    assert_eq!(replayed.body.as_ptr(), body.as_ptr());
}

/// Bytes whose owner asks the store about its own key when it is dropped: a deadlock, if a lock is held then.
struct Nosy(Arc<MemoryStore>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Nosy {
    fn as_ref(&self) -> &[u8] {
        b"nosy"
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let key = key(1);
        let mut looks = pin!(self.0.get(&key));
        let mut context = Context::from_waker(Waker::noop());
        assert!(looks.as_mut().poll(&mut context).is_ready());
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_dropped_under_the_lock() {
    let store = Arc::new(MemoryStore::new());
    let drops = Arc::new(AtomicUsize::new(0));
    let nosy = || answer(Bytes::from_owner(Nosy(Arc::clone(&store), Arc::clone(&drops))));
    let key = key(1);
    let complete = |owner| store.complete(&key, token(owner), nosy());

    assert_eq!(complete(1).await.unwrap(), CompleteOutcome::Lost);
    must_reserve(&store, 1, 1).await;
    assert_eq!(complete(2).await.unwrap(), CompleteOutcome::Lost);
    assert_eq!(complete(1).await.unwrap(), CompleteOutcome::Completed);
    assert_eq!(complete(1).await.unwrap(), CompleteOutcome::AlreadyCompleted);
    assert_eq!(complete(2).await.unwrap(), CompleteOutcome::Lost);
    assert_eq!(drops.load(Ordering::Relaxed), 4, "all but the accepted one");

    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(complete(1).await.unwrap(), CompleteOutcome::Lost, "expired");
    must_reserve(&store, 1, 2).await;
    assert_eq!(drops.load(Ordering::Relaxed), 6, "and the replaced one");

    assert_eq!(complete(2).await.unwrap(), CompleteOutcome::Completed);
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(store.sweep(1).await.unwrap(), 1);
    assert_eq!(drops.load(Ordering::Relaxed), 7, "and the swept one");

    must_reserve(&store, 1, 1).await;
    assert_eq!(complete(1).await.unwrap(), CompleteOutcome::Completed);
    tokio::time::advance(2 * MINUTE).await;
    for name in 2..5000 {
        must_reserve(&store, name, 1).await;
    }
    assert_eq!(drops.load(Ordering::Relaxed), 8, "and the one that a later insertion removed");
}
