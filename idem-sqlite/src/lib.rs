//! The durable embedded store of [idem](idem_core): one SQLite file, shared by the processes of one machine.
//!
//! - **Durable.** An operation is acknowledged after its commit was flushed to the disk ([`Synchronous::Full`]).
//! - **Fast all the same.** One thread writes, and commits everything that waits in one transaction: a hundred callers
//!   share one flush. Who is alone commits on its own thread. Replays and refusals only read, and never wait for it.
//! - **Shared.** Several processes may open one file; SQLite's locks order them. Network file systems are refused.
//! - **Exactly once, where the effect is in the same file.** [`SqliteStore::complete_reservation`] commits an effect
//!   together with its completion.
//!
//! [`SqliteStore::connect`] opens it; [`Options`] say how durable, how patient and on what clock. What each failure
//! means, and what it leaves behind, stands in the crate's README.
//!
//! # Where things are
//!
//! `store` is the trait; `writer` commits, and `job` is what it commits; `transactional` is completion together with an
//! effect, and `step` its job. `readers` look; `keeper` cleans up. `table` holds the statements, `frame` the bytes of a
//! record, `schema` the tables and `connection` how the file is opened; `place` says where a file can be.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod connection;
mod error;
mod frame;
mod job;
mod keeper;
mod options;
mod pace;
mod place;
mod readers;
mod schema;
mod step;
mod store;
mod table;
mod transactional;
mod writer;

pub use clock::Clock;
pub use options::{Options, Synchronous};
pub use store::SqliteStore;
pub use transactional::Transacted;

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those of the project.
#[cfg(doctest)]
#[doc = include_str!("../docs/README.md")]
struct ProjectReadme;
