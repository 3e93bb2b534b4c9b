//! The store that lives in this process: for tests, and for services of a single process that may forget.
//!
//! [`MemoryStore`] keeps the whole contract of [`ReservationStore`](idem_core::ReservationStore) with nothing to
//! install. It differs from the other backends in one respect: **nothing outlives the process.** When it exits or
//! crashes, every reservation, answer and tombstone is gone; a request that is sent again afterwards runs again, as
//! attempt 1, and nothing shows that there was an earlier one. Two processes do not see each other. Where that matters,
//! this is not the store to take; durable ones are being built on the same trait and are not here yet.
//!
//! ```
//! use std::time::Duration;
//! use idem_core::{//!     Answer, CompleteOutcome, Fingerprint, Key, ReservationStore, //!     StoredValue, //!};
//! use idem_core::store::{Completion, OwnerToken, ReserveRequest, ReserveOutcome};
//! use idem_memory::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::new();
//! let key = Key::new("tenant-7/POST /payments", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
//! let request = |owner| ReserveRequest::new(owner, Fingerprint::from_parts(["100 EUR"]), Duration::from_secs(60));
//!
//! let first = OwnerToken::random();
//! let outcome = store.reserve(&key, request(first)).await?;
//! assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 1, .. }));
//! let answer = Answer::from(StoredValue::bytes("paid"));
//! let kept = store.complete(&key, first, Completion::new(answer.clone(), Duration::from_secs(24 * 3600))).await?;
//! assert_eq!(kept, CompleteOutcome::Completed);
//!
//! let duplicate = store.reserve(&key, request(OwnerToken::random())).await?;
//! assert_eq!(duplicate, ReserveOutcome::Completed { answer, attempt: 1 });
//! # Ok(())
//! # }
//! ```
//!
//! # Tests that move time
//!
//! The store's clock is tokio's. A test that pauses it walks through leases and retentions with nothing but
//! `tokio::time::advance`; there is no clock to inject. (Here it is `#[tokio::main]`, so that this example runs; a
//! test says `#[tokio::test(start_paused = true)]`.)
//!
//! ```
//! use std::time::Duration;
//! use idem_core::{//!     CompleteOutcome, Fingerprint, Key, ReservationStore, StoredValue, //!};
//! use idem_core::store::{Completion, OwnerToken, ReserveRequest, ReserveOutcome};
//! use idem_memory::MemoryStore;
//!
//! #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let (minute, day) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
//!     let store = MemoryStore::new();
//!     let key = Key::new("tenant-7", "a")?;
//!     let reserve = |owner| store.reserve(&key, ReserveRequest::new(owner, Fingerprint::from_parts(["a"]), minute));
//!     let (first, second, third) = (OwnerToken::random(), OwnerToken::random(), OwnerToken::random());
//!
//!     assert!(matches!(reserve(first).await?, ReserveOutcome::Reserved { attempt: 1, .. }));
//!     tokio::time::advance(minute - Duration::from_millis(1)).await;
//!     assert!(matches!(reserve(second).await?, ReserveOutcome::InFlight { .. }));
//!     tokio::time::advance(Duration::from_millis(1)).await; // the lease is over
//!     assert!(matches!(reserve(second).await?, ReserveOutcome::Reserved { attempt: 2, .. }));
//!
//!     let kept = store.complete(&key, second, Completion::new(StoredValue::bytes("done"), day)).await?;
//!     assert_eq!(kept, CompleteOutcome::Completed);
//!     tokio::time::advance(day - Duration::from_millis(1)).await;
//!     assert!(matches!(reserve(third).await?, ReserveOutcome::Completed { .. }));
//!     tokio::time::advance(Duration::from_millis(1)).await; // the retention is over
//!     assert!(matches!(reserve(third).await?, ReserveOutcome::Reserved { attempt: 1, .. }));
//!     Ok(())
//! }
//! ```
//!
//! The system's clock is read once, when the store is made, to give fencing tokens a date; its steps change no lease.
//! Tokens of two lives of a process therefore increase unless the system's clock was set back in between.
//!
//! # When it is full
//!
//! A store is bounded by records and by bytes ([`Options`]). It never evicts: a record goes only once it has expired.
//!
//! - An operation that would create a record in a full store first looks for expired ones to remove. If there is
//!   still no room it fails as [`Full`](idem_core::StoreErrorKind::Full), and nothing happened. That is a `reserve` of
//!   a new key, and a `release` of an absent one: its tombstone would be a new record like any other. (The reservation
//!   that such a tombstone is to stop has then not arrived, and in a process that has given it up never will.)
//! - Whoever holds a key is not affected: `complete` is never refused for want of room, since its handler has had its
//!   effect already and the answer is what keeps it from having it twice. Answers may therefore take the store beyond
//!   `max_bytes`, by those of the runs that were in flight.
//! - An answer above `max_answer_bytes` is [`TooLarge`](idem_core::StoreErrorKind::TooLarge), and the record stays in
//!   flight.
//!
//! What one operation looks at in a full store is limited, so that none takes more than a few milliseconds. If the
//! few expired records of a large store lie far apart, some calls may be refused before one of them finds the next.
//!
//! # Expired records
//!
//! They count as absent from the instant they expire, and their memory is used again: every new key pays for a look at
//! a few old ones, which keeps garbage below a third of what lives. A service that no longer gets new keys can call
//! [`sweep`](idem_core::ReservationStore::sweep); it need not.
//!
//! # Bytes
//!
//! Answers are kept and replayed as the [`Bytes`](https://docs.rs/bytes) they came in, and no byte is copied. So an
//! answer that is a small slice of a large buffer keeps that whole buffer in memory, beyond what is counted: pass
//! `Bytes::copy_from_slice(&slice)` instead.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod entry;
mod error;
mod hash;
mod options;
mod shard;
mod slab;
mod store;
mod sync;
mod usage;
mod walk;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use options::Options;
pub use store::MemoryStore;
