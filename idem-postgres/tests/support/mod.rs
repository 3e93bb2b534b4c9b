//! What the tests share: a server with a store and a table of payments, the effects that are to happen once.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use idem_conformance::span;
use std::net::SocketAddr;
use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{Admission, Engine, Fingerprint, Key, Reservation, ReservationStore, StoreError};
use idem_postgres::{Options, PostgresStore, Transaction};
use test_servers::postgres::Postgres;

pub(crate) const LEASE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A server, a store in it, and an engine.
pub(crate) struct Shop {
    pub(crate) server: Postgres,
    pub(crate) store: PostgresStore,
    pub(crate) engine: Engine,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::on(Postgres::start().await, Options::new()).await
    }

    pub(crate) async fn on(server: Postgres, options: Options) -> Self {
        let url = server.url();
        Self::at(server, &url, options).await
    }

    /// A shop that reaches its server through a proxy.
    pub(crate) async fn through(server: Postgres, proxy: SocketAddr, options: Options) -> Self {
        Self::at(server, &format!("postgres://idem@{proxy}/postgres"), options).await
    }

    async fn at(server: Postgres, url: &str, options: Options) -> Self {
        let store = PostgresStore::connect_with(url, options).await.unwrap();
        let engine = Engine::builder(store.clone()).lease(LEASE).build().unwrap();
        let table = "CREATE TABLE payment (id int GENERATED ALWAYS AS IDENTITY, key text)";
        server.client().await.batch_execute(table).await.unwrap();
        Self { server, store, engine }
    }

    /// The key, which nobody has.
    pub(crate) async fn reserved(&self) -> Reservation {
        match self.engine.reserve(&key(), &payload()).await.unwrap() {
            Admission::Granted(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    /// The number of the attempt that gets the key now.
    pub(crate) async fn next_attempt(&self) -> Option<u32> {
        let request = ReserveRequest::new(OwnerToken::random(), payload(), span(LEASE));
        match self.store.reserve(&key(), request).await.unwrap() {
            ReserveOutcome::Reserved { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// The number of the next attempt, as soon as there can be one: what frees the key goes on in the background.
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
            Admission::Replayed(response) => response.body == answer,
            _ => false,
        }
    }

    /// How many payments there are, committed.
    pub(crate) async fn payments(&self) -> i64 {
        self.server.client().await.query_one("SELECT count(*) FROM payment", &[]).await.unwrap().get(0)
    }

    /// How many sessions of the store are in a transaction that nobody goes on with at this moment.
    pub(crate) async fn open_transactions(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idem' AND state LIKE 'idle in transaction%'";
        self.server.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn until_no_transaction_is_open(&self) {
        while self.open_transactions().await > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

pub(crate) fn key() -> Key {
    Key::new("payments", "42").unwrap()
}

pub(crate) fn payload() -> Fingerprint {
    Fingerprint::from_parts(["100 EUR"])
}

/// The effect.
pub(crate) async fn pay(transaction: &Transaction) {
    transaction.execute("INSERT INTO payment (key) VALUES ('42')", &[]).await.unwrap();
}

/// The words of an error and of its causes.
pub(crate) fn words(error: &StoreError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    format!("{error} | {}", source.unwrap_or_default())
}
