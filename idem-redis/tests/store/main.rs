//! A store and what happens around it: failovers, replicas, servers that evict or are full, clocks, logins, TLS. What a
//! link does by itself is tested in `src/link/tests`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

#[path = "../golden/mod.rs"]
mod golden;
#[path = "../support/mod.rs"]
mod support;

mod clock;
mod corrupt;
mod events;
mod external;
mod failover;
mod format;
mod health;
mod limits;
mod replicas;
mod rights;
mod secrets;
#[cfg(feature = "rustls")]
mod tls;
mod writes;

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    Answer, CompleteOutcome, FencingToken, Fingerprint, Key, ReservationStore, StoreError, StoredValue,
};
use idem_redis::{RedisOptions, RedisStore};
use redis::Value;
use support::ClockedServer;
use test_servers::blocking;
use tokio::time::Instant;

const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A reservation that succeeded.
struct Granted {
    owner: OwnerToken,
    fence: FencingToken,
    attempt: u32,
}

fn key(name: &str) -> Key {
    Key::new("scope", name).unwrap()
}

fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(LEASE))
}

fn completion(answer: &'static str) -> Completion {
    Completion::new(StoredValue::bytes(answer), span(24 * HOUR))
}

async fn reserve(store: &RedisStore, key: &Key) -> Result<ReserveOutcome, StoreError> {
    store.reserve(key, request(OwnerToken::random())).await
}

async fn reserved(store: &RedisStore, key: &Key) -> Granted {
    let owner = OwnerToken::random();
    match store.reserve(key, request(owner)).await.unwrap() {
        ReserveOutcome::Reserved { attempt, fence, .. } => Granted { owner, fence, attempt },
        other => panic!("{other:?}"),
    }
}

async fn completed(store: &RedisStore, key: &Key, owner: OwnerToken, answer: &'static str) {
    let outcome = store.complete(key, owner, completion(answer)).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
}

async fn is_replayed(store: &RedisStore, key: &Key, answer: &'static str) -> bool {
    let outcome = reserve(store, key).await.unwrap();
    matches!(outcome, ReserveOutcome::Completed { answer: Answer::Value(found), .. } if found == StoredValue::bytes(answer))
}

/// Resends an operation with the same token while the error is transient, as the engine does.
async fn persist<T, F: Future<Output = Result<T, StoreError>>>(operation: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match operation().await {
            Ok(outcome) => return outcome,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                assert!(Instant::now() < deadline, "it never succeeds: {error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Reserves, completes and replays a key.
async fn live(store: &RedisStore, name: &str) {
    let (key, owner) = (key(name), OwnerToken::random());
    let reserved = persist(|| store.reserve(&key, request(owner))).await;
    assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }), "{reserved:?}");
    let completed = persist(|| store.complete(&key, owner, completion("done"))).await;
    assert!(
        matches!(completed, CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted),
        "{completed:?}"
    );
    let replayed = persist(|| reserve(store, &key)).await;
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
}

async fn connect(url: &str, options: RedisOptions) -> RedisStore {
    RedisStore::connect_with(url, options).await.unwrap()
}

async fn ask(server: &ClockedServer, command: &redis::Cmd) -> Value {
    command.query_async(&mut server.connection().await).await.unwrap()
}
