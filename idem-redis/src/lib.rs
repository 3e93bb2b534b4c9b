//! The store of [idem](idem_core) in Redis or Valkey: for services that have outgrown one machine.
//!
//! - **One round trip per operation**, by a script that looks and changes in one atomic step: in the way, in flight and
//!   replayed included.
//! - **One key per record**, whose time to live the server keeps: nothing has to be swept.
//! - **The server's clock** decides leases, and makes the fencing tokens.
//! - **Finished requests are replayed, and owners can finish,** also when the server has no memory left.
//!
//! [`RedisStore::connect`] opens it; [`Options`] say what is kept and under which names. What each failure means, and what
//! it leaves behind, stands in the crate's README; what a server that evicts, or that fails over, takes away from idem's
//! promises, too.
//!
//! # Where things are
//!
//! `store` is the trait, and `script` how each operation reaches the server. The operations themselves are in
//! `src/scripts`, one file each, in Lua; `reply` reads what they answer. `frame` is the bytes of a record, `key` its name.
//! `link` is the connection: to one server, to the master that Sentinel names, to a Cluster (`address` reads the URL);
//! `health` looks at the servers, and `replication` waits for their replicas.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod error;
mod frame;
mod health;
mod key;
mod link;
mod options;
mod replication;
mod reply;
mod script;
mod store;
mod tls;

pub use health::{Fact, Health, Persistence, ServerHealth};
pub use link::Connection;
pub use options::{HealthMode, Options, Replicas};
pub use store::RedisStore;

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
