//! The [idem](idem_core) store in Redis or Valkey: one server, Sentinel or Cluster.
//!
//! ```no_run
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Engine, Fingerprint, Key, Outcome};
//! use idem_redis::RedisStore;
//!
//! let store = RedisStore::connect("redis://127.0.0.1").await?;
//! let engine = Engine::builder(store).build()?;
//! let key = Key::new("tenant-7", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
//! let fingerprint = Fingerprint::from_parts(["POST", "/payments", r#"{"amount": 100}"#]);
//!
//! let outcome = engine.execute(&key, &fingerprint, async |attempt| {
//!     Ok::<_, std::io::Error>(format!("payment made by attempt {}", attempt.number))
//! });
//! match outcome.await? {
//!     Outcome::Executed(payment) | Outcome::Replayed(payment) => println!("{payment}"),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | task | item |
//! |---|---|
//! | connect to one server, Sentinel or a Cluster | [`RedisStore::connect`]; [`RedisStore::connect_with`] lists the URLs |
//! | set timeouts, limits and the prefix of record names | [`RedisStore::connect_with`], [`RedisOptions`] |
//! | use a connection that the application already has | [`RedisStore::from_connection`] |
//! | wait for replicas before an operation is acknowledged | [`RedisOptions::replicas`] |
//! | accept a server that evicts keys | [`HealthMode`] |
//! | read the servers' version, role, eviction policy and persistence | [`RedisStore::health`] |
//! | trust a private certificate authority (feature `rustls`) | `RedisOptions::root_certificates` |
//!
//! Every operation is one script and one round trip, and takes effect in one atomic step. A record is one key of the
//! server, which removes it when its time to live ends. Leases and fencing tokens follow the server's clock.
//!
//! The crate's README lists what each failure leaves behind, which promises a server that evicts or fails over cannot
//! keep, and the rights that the store's user needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod error;
mod health;
mod link;
mod options;
mod record;
mod script;
mod store;
mod tls;

pub use health::{Health, Persistence, Reported, ServerHealth};
pub use link::Connection;
pub use options::{HealthMode, RedisOptions};
pub use store::RedisStore;

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
