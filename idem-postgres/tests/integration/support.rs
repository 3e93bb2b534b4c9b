//! What the tests share: a server with a store, and a table of payments, each of which must happen once.

use std::net::SocketAddr;
use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    Admission, Effect, Engine, Fingerprint, Key, Reservation, ReservationStore, StoreError, StoreErrorKind,
    StoredValue,
};
use idem_postgres::{PostgresOptions, PostgresStore, ReservationExt, Transaction, TransactionError};
use test_servers::Proxy;
use test_servers::postgres::Postgres;

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server, a store on it, and an engine.
pub(crate) struct Shop {
    pub(crate) server: Postgres,
    pub(crate) store: PostgresStore,
    pub(crate) engine: Engine,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::on(Postgres::start().await, PostgresOptions::new()).await
    }

    pub(crate) async fn open_with(options: PostgresOptions) -> Self {
        Self::on(Postgres::start().await, options).await
    }

    /// A shop on a server whose clock the test moves.
    pub(crate) async fn with_clock() -> Self {
        Self::on(Postgres::start_with_clock().await, PostgresOptions::new()).await
    }

    pub(crate) async fn on(server: Postgres, options: PostgresOptions) -> Self {
        let url = server.url();
        Self::at(server, &url, options).await
    }

    /// A shop whose store reaches its server through a proxy.
    pub(crate) async fn proxied(options: PostgresOptions) -> (Proxy, Self) {
        let server = Postgres::start().await;
        let proxy = Proxy::start(server.address()).await;
        let shop = Self::at(server, &url_of(proxy.address()), options).await;
        (proxy, shop)
    }

    async fn at(server: Postgres, url: &str, options: PostgresOptions) -> Self {
        let store = PostgresStore::connect_with(url, options).await.unwrap();
        let engine = Engine::builder(store.clone()).lease(LEASE).build().unwrap();
        let table = "CREATE TABLE payment (id int GENERATED ALWAYS AS IDENTITY, key text)";
        server.client().await.batch_execute(table).await.unwrap();
        Self { server, store, engine }
    }

    /// Reserves the free key.
    pub(crate) async fn reserved(&self) -> Reservation {
        match self.engine.reserve(&key(), &payload()).await.unwrap() {
            Admission::Granted(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    /// Reserves the free key, and begins a transaction.
    pub(crate) async fn begun(&self) -> Transaction {
        self.reserved().await.begin_transaction(&self.store).await.unwrap()
    }

    /// The attempt number of a reservation that is made now; `None` if the key is not free.
    pub(crate) async fn next_attempt(&self) -> Option<u32> {
        match self.store.reserve(&key(), request(OwnerToken::random())).await.unwrap() {
            ReserveOutcome::Reserved { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// The attempt number of the next reservation, as soon as the key is free: it is freed in the background.
    pub(crate) async fn eventual_attempt(&self) -> u32 {
        loop {
            if let Some(attempt) = self.next_attempt().await {
                return attempt;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn is_replayed(&self, answer: &'static str) -> bool {
        match self.engine.reserve(&key(), &payload()).await.unwrap() {
            Admission::Replayed(value) => value.body == answer,
            _ => false,
        }
    }

    /// How many payments are committed.
    pub(crate) async fn payments(&self) -> i64 {
        self.server.client().await.query_one("SELECT count(*) FROM payment", &[]).await.unwrap().get(0)
    }

    /// How many sessions are idle in a transaction.
    pub(crate) async fn open_transactions(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
        self.server.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn until_no_transaction_is_open(&self) {
        while self.open_transactions().await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The key of every test that needs one.
pub(crate) fn key() -> Key {
    Key::new("payments", "42").unwrap()
}

pub(crate) fn payload() -> Fingerprint {
    Fingerprint::from_parts(["100 EUR"])
}

pub(crate) fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, payload(), span(LEASE))
}

/// A completion with an answer that is kept for a day.
pub(crate) fn completion(answer: &'static str) -> Completion {
    Completion::new(StoredValue::bytes(answer), span(DAY))
}

/// Makes the effect.
pub(crate) async fn pay(transaction: &Transaction) {
    transaction.execute("INSERT INTO payment (key) VALUES ('42')", &[]).await.unwrap();
}

pub(crate) fn url_of(server: SocketAddr) -> String {
    format!("postgres://idem@{server}/postgres")
}

/// The store's error in the result of a transaction.
pub(crate) fn store_error<T: std::fmt::Debug>(result: Result<T, TransactionError>) -> StoreError {
    match result {
        Err(TransactionError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Checks that an error is of this kind and without effect, and that its text contains `says`.
#[track_caller]
pub(crate) fn assert_without_effect(error: &StoreError, kind: StoreErrorKind, says: &str) {
    let text = words(error);
    assert_eq!((error.kind, error.effect), (kind, Effect::NotApplied), "{text}");
    assert!(text.contains(says), "{text}");
}

/// The text of an error and of its source.
pub(crate) fn words(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} | {}", source.unwrap_or_default())
}
