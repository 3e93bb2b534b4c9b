//! A store and the world outside: failovers, replicas, servers that evict, logins, TLS. What a link does by itself is
//! tested beside it, in `src/link/tests`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod borrowed;
mod events;
mod failover;
mod health;
mod limits;
mod replicas;
mod secrets;
#[cfg(feature = "rustls")]
mod tls;

use idem_conformance::span;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{Answer, CompleteOutcome, Fingerprint, Key, ReservationStore, StoreError, StoredValue};
use idem_redis::{Options, RedisStore};
use test_servers::blocking;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn key(name: &str) -> Key {
    Key::new("links", name).unwrap()
}

fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(HOUR))
}

fn answer(bytes: &'static [u8]) -> Completion {
    Completion::new(Answer::Value(StoredValue::bytes(bytes)), span(HOUR))
}

/// Sends it again, with the same token, for as long as the error says that this may help: what the engine does.
async fn persist<T, F: Future<Output = Result<T, StoreError>>>(operation: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match operation().await {
            Ok(outcome) => return outcome,
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                assert!(Instant::now() < deadline, "in vain: {error:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// One whole life of a key: reserved, completed, replayed.
async fn live(store: &RedisStore, name: &str) {
    let (key, owner) = (key(name), OwnerToken::random());
    let reserved = persist(|| store.reserve(&key, request(owner))).await;
    assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }), "{reserved:?}");
    let completed = persist(|| store.complete(&key, owner, answer(b"done"))).await;
    assert!(
        matches!(completed, CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted),
        "{completed:?}"
    );
    let replayed = persist(|| store.reserve(&key, request(OwnerToken::random()))).await;
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
}

async fn connect(url: &str, options: Options) -> RedisStore {
    RedisStore::connect_with(url, options).await.unwrap()
}
