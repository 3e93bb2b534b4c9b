//! An [idem](idem_core) store in the memory of one process, for tests and for services that may forget.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use idem_core::{Engine, Fingerprint, Key, Outcome};
//! use idem_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder(MemoryStore::new()).build()?;
//! let key = Key::new("tenant-7/POST /payments", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
//! let fingerprint = Fingerprint::from_parts(["100 EUR"]);
//! let pay = |_attempt| async { Ok::<_, Infallible>(Bytes::from("paid")) };
//!
//! assert!(matches!(engine.execute_bytes(&key, &fingerprint, pay).await?, Outcome::Executed(_)));
//! assert!(matches!(engine.execute_bytes(&key, &fingerprint, pay).await?, Outcome::Replayed(_)));
//! # Ok(())
//! # }
//! ```
//!
//! | task | see |
//! |---|---|
//! | make a store | [`MemoryStore::new`], [`MemoryStore::connect`] with the URL `memory:` |
//! | limit its memory | [`MemoryOptions`], [`MemoryStore::with_options`], [`MemoryStore::connect_with`] |
//! | see how full it is | [`MemoryStore::records`], [`MemoryStore::bytes`] |
//! | run requests on it | [`Engine`](idem_core::Engine) |
//! | test leases and retentions without waiting | [Tests that move time](#tests-that-move-time) |
//! | know what a full store does | [A full store](#a-full-store) |
//! | remove expired records | [Expired records](#expired-records) |
//!
//! **Nothing outlives the process.** When the process exits or crashes, all reservations and answers are gone. A
//! request that is sent again afterwards runs again as attempt 1, and nothing shows that it ran before. Two processes
//! do not share a store. Where that matters, use a durable store: `idem-sqlite`, `idem-postgres` or `idem-redis`
//! implement the same trait.
//!
//! # Tests that move time
//!
//! The store uses tokio's clock. A test that pauses this clock moves through leases and retentions with
//! `tokio::time::advance`. (The example uses `#[tokio::main]` so that it runs here; a test uses
//! `#[tokio::test(start_paused = true)]`.)
//!
//! ```
//! use std::time::Duration;
//! use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, Span};
//! use idem_core::{CompleteOutcome, Fingerprint, Key, ReservationStore, StoredValue};
//! use idem_memory::MemoryStore;
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
//!     let (lease, retention) = (Span::new(minute)?, Span::new(day)?);
//!     let store = MemoryStore::new();
//!     let key = Key::new("tenant-7", "a")?;
//!     let reserve = |owner| store.reserve(&key, ReserveRequest::new(owner, Fingerprint::from_parts(["a"]), lease));
//!     let (first, second, third) = (OwnerToken::random(), OwnerToken::random(), OwnerToken::random());
//!
//!     assert!(matches!(reserve(first).await?, ReserveOutcome::Reserved { attempt: 1, .. }));
//!     tokio::time::advance(minute - Duration::from_millis(1)).await;
//!     assert!(matches!(reserve(second).await?, ReserveOutcome::InFlight { .. }));
//!     tokio::time::advance(Duration::from_millis(1)).await; // the lease is over
//!     assert!(matches!(reserve(second).await?, ReserveOutcome::Reserved { attempt: 2, .. }));
//!
//!     let outcome = store.complete(&key, second, Completion::new(StoredValue::bytes("done"), retention)).await?;
//!     assert_eq!(outcome, CompleteOutcome::Completed);
//!     tokio::time::advance(day - Duration::from_millis(1)).await;
//!     assert!(matches!(reserve(third).await?, ReserveOutcome::Completed { .. }));
//!     tokio::time::advance(Duration::from_millis(1)).await; // the retention is over
//!     assert!(matches!(reserve(third).await?, ReserveOutcome::Reserved { attempt: 1, .. }));
//!     Ok(())
//! }
//! ```
//!
//! The store reads the system's clock once, when it is made, so that fencing tokens start from the current date. Later
//! steps of the system's clock change no lease. Fencing tokens grow across restarts of the process unless the system's
//! clock was set back in between.
//!
//! # A full store
//!
//! A store is bounded by records and by bytes ([`MemoryOptions`]). It never evicts: only expired records are removed.
//!
//! - A `reserve` of a new key in a full store first removes expired records. If there is still no room, it fails as
//!   [`Full`](idem_core::StoreErrorKind::Full) and changes nothing. The same is true for a `release` of an absent key,
//!   because its tombstone is a new record.
//! - Keys that are in the store are not affected. `complete` is never refused for lack of room: the handler has
//!   already run, and only the stored answer prevents a second run. Answers of running requests may therefore exceed
//!   `max_bytes`.
//! - An answer longer than `max_answer_bytes` fails as [`TooLarge`](idem_core::StoreErrorKind::TooLarge), and the
//!   record stays in flight.
//!
//! # Expired records
//!
//! A record counts as absent from the instant at which it expires. Every new key removes up to four expired records,
//! so their memory is used again. A service that gets no new keys can call
//! [`sweep`](idem_core::ReservationStore::sweep), but does not have to.
//!
//! # Bytes
//!
//! Answers are stored and replayed as the [`Bytes`](https://docs.rs/bytes) of the caller, without a copy. A small
//! slice of a large buffer therefore keeps the whole buffer in memory, and the store counts only the slice. Pass
//! `Bytes::copy_from_slice(&slice)` to avoid this.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod error;
mod expiry;
mod options;
mod store;
mod sync;
mod usage;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use options::MemoryOptions;
pub use store::MemoryStore;
