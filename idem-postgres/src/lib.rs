//! The Postgres store of [idem](idem_core): records are rows of a table in your database, and an effect in that database
//! is committed together with its completion.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Admission, Engine, Fingerprint, Key, StoredValue};
//! use idem_postgres::{PostgresStore, ReservationExt};
//!
//! let store = PostgresStore::connect("postgres://shop:secret@db.example/shop").await?;
//! let engine = Engine::builder(store.clone()).build()?;
//!
//! let (key, fingerprint) = (Key::new("payments", "8e03978e")?, Fingerprint::from_parts(["100 EUR"]));
//! if let Admission::Granted(reservation) = engine.reserve(&key, &fingerprint).await? {
//!     let transaction = reservation.begin_transaction(&store).await?;
//!     transaction.execute("INSERT INTO payment (cents) VALUES ($1)", &[&10_000_i64]).await?;
//!     transaction.complete(StoredValue::bytes("paid")).await?; // commits both
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | task | item |
//! |---|---|
//! | connect | [`PostgresStore::connect`], [`PostgresStore::connect_with`] |
//! | choose the schema, the table and the limits | [`PostgresOptions`] |
//! | use a connection pool or a TLS connector of your own | [`PostgresStore::from_pool`], [`PostgresStore::connect_tls`] |
//! | create the tables with your own migration tool | [`PostgresStore::schema_sql`] |
//! | commit an effect together with its completion | [`ReservationExt::begin_transaction`], [`Transaction::complete`] |
//! | commit them together over sqlx | `sqlx::ReservationExt::begin_sqlx_transaction` (feature `sqlx`) |
//! | complete in a transaction that you commit yourself | [`PostgresStore::complete_in`] |
//! | run a handler once, without a transaction | [`Engine::execute`](idem_core::Engine::execute) |
//!
//! The crate's README lists what happens in each failure.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connect;
mod connection;
mod error;
mod maintenance;
mod options;
mod record;
mod schema;
mod sql;
mod sqlstate;
mod store;
mod transaction;

pub use options::{PostgresOptions, Statements};
pub use store::PostgresStore;
#[cfg(feature = "sqlx")]
pub use transaction::sqlx;
pub use transaction::{ReservationExt, Transaction, TransactionError};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the guide to transactions.
#[cfg(doctest)]
#[doc = include_str!("../docs/transactional.md")]
struct Transactions;
