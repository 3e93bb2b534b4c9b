//! The Postgres store of [idem](idem_core): a table in your own database, and completion in your own transaction.
//!
//! - **Exactly once, where the effect is in the same database.** [`ReservationExt::begin_transaction`] gives a
//!   [`Transaction`] that cannot be committed without its completion; [`PostgresStore::complete_in`] writes a completion in
//!   a transaction that you commit yourself. The module `sqlx` (feature `sqlx`) has the same over sqlx.
//! - **Never in the way.** Replays and refusals are one `SELECT`, and no reservation, renewal or sweep waits for the lock of
//!   a record.
//! - **At home in your database.** Any schema and table, your pool or its own, pgbouncer in transaction mode; no
//!   `search_path` or setting of a role changes what a statement does.
//!
//! [`PostgresStore::connect`] opens it; [`Options`] say where the table is and how the server is talked to. What each failure
//! means, and what it leaves behind, stands in the crate's README.
//!
//! # Where things are
//!
//! `store` is the trait, with `reserve` for its longest operation, and `sql/` has its statements, one file for each; `row` and
//! `fields` read a record, `statement` and `names` put the table's name into SQL. `connection` sends a statement and knows when
//! a connection is fit to be used again; `connect` makes the pool, `schema` the tables and their functions, and `keeper` cleans
//! up. `transaction` is the guard over tokio-postgres, and
//! `sqlx` over sqlx: both are an `owned` transaction, which `ending` brings to its end; `lock` is what it finds when it begins,
//! `guards` the keys whose heartbeats pause. `complete_in` is for transactions of the caller's. `session` has the statements
//! that both drivers send. `error` says what each failure means, with `sqlstate` for what the server says.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod binary;
mod complete_in;
mod connect;
mod connection;
mod ending;
mod error;
mod fields;
mod guards;
mod instant;
mod interval;
mod keeper;
mod lock;
mod names;
mod options;
mod owned;
mod patience;
mod reserve;
mod row;
mod schema;
mod session;
mod sqlstate;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod statement;
mod store;
#[cfg(feature = "rustls")]
mod tls;
mod transaction;

pub use options::{Options, Statements};
pub use store::PostgresStore;
pub use transaction::{ReservationExt, Transaction, TransactionError};

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those about transactions.
#[cfg(doctest)]
#[doc = include_str!("../docs/transactional.md")]
struct Transactions;
