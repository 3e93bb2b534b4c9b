//! A durable store for [idem](idem_core) in one SQLite file, which the processes of one machine can share.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Engine, Fingerprint, Key};
//! use idem_sqlite::SqliteStore;
//!
//! let store = SqliteStore::connect("sqlite:/var/lib/shop/idem.db").await?;
//! let engine = Engine::builder(store).build()?;
//!
//! let key = Key::new("tenant-7/POST /payments", "8e03978e")?;
//! let fingerprint = Fingerprint::from_parts(["100 EUR"]);
//! let outcome = engine.execute(&key, &fingerprint, async |_attempt| {
//!     Ok::<_, std::io::Error>("paid".to_owned()) // runs once; every duplicate gets "paid"
//! });
//! println!("{:?}", outcome.await?);
//! # Ok(())
//! # }
//! ```
//!
//! | task | item |
//! |---|---|
//! | open a store | [`SqliteStore::connect`], or [`SqliteStore::open`] with a path |
//! | change timeouts, limits or durability | [`SqliteStore::connect_with`], [`SqliteOptions`] |
//! | commit your own rows and the answer in one transaction | [`SqliteStore::complete_reservation`] |
//! | let time pass in tests | [`Clock`] |
//! | finish all writes before the process ends | [`SqliteStore::close`] |
//!
//! The store acknowledges an operation after the disk has flushed its commit ([`Synchronous::Full`]). One thread writes,
//! and commits all waiting operations in one transaction, so that a hundred callers share one flush. Replays and refusals
//! only read, and never wait for a writer. Network file systems are refused.
//!
//! The crate's README lists the failures that can happen, what the store promises for each, and the test that shows it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod error;
mod file;
mod maintenance;
mod options;
mod readers;
mod record;
mod store;
mod sync;
mod transaction;
mod writer;

pub use clock::Clock;
pub use options::{SqliteOptions, Synchronous};
pub use store::SqliteStore;
pub use transaction::TransactionOutcome;

/// Compiles the examples of this crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../docs/README.md")]
struct ProjectReadme;
