//! An idempotency engine: it runs a handler once per request and gives every duplicate the first answer.
//!
//! ```no_run
//! # async fn example(store: impl idem_core::ReservationStore) -> Result<(), Box<dyn std::error::Error>> {
//! use idem_core::{Engine, Fingerprint, Key, Outcome};
//!
//! let engine = Engine::builder(store).build()?; // the store of idem-sqlite, idem-postgres, idem-redis or idem-memory
//! let key = Key::new("tenant-7", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
//! let fingerprint = Fingerprint::from_parts(["POST", "/payments", r#"{"amount": 100}"#]);
//!
//! let outcome = engine.execute(&key, &fingerprint, async |attempt| {
//!     Ok::<_, std::io::Error>(format!("payment made by attempt {}", attempt.number))
//! });
//! match outcome.await? {
//!     Outcome::Executed(payment) | Outcome::Replayed(payment) => println!("{payment}"),
//!     Outcome::InFlight { retry_after } => println!("still running; ask again in {retry_after:?}"),
//!     other => println!("{other:?}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | task | item |
//! |---|---|
//! | run a handler once | [`Engine::execute`] |
//! | run it to the end even if the client disconnects | [`Engine::execute_detached`] |
//! | store and replay bytes as they are | [`Engine::execute_bytes`], [`Engine::execute_bytes_detached`] |
//! | take the value of an outcome | [`Outcome::into_value`] |
//! | reserve a key and settle it later | [`Engine::reserve`], [`Reservation`] |
//! | see in a handler whether an earlier attempt ran | [`Attempt::number`] |
//! | pass a fence or an idempotency key to another system | [`Attempt::fence`], [`Attempt::downstream_key`] |
//! | unit-test a handler | [`Attempt::for_test`] |
//! | choose leases, retention and policies | [`EngineBuilder`] |
//! | settle a key whose outcome is unknown | [`Engine::resolve`] |
//! | stop a process cleanly | [`Engine::shutdown`] |
//! | find the names of events and counters | [`observe`] |
//! | write a store | [`store`], [`store::transition`] |
//! | write a backend with transactions, or a layer | [`backend`] |
//!
//! # Promises
//!
//! - At most one owner of a key is live at a time, by the store's clock.
//! - At most one completion is accepted, and its bytes never change until it expires.
//! - Only the current owner can settle a key. An owner that lost its lease gets `Lost`; its writes are ignored.
//! - An earlier attempt that may have had its effect is visible to the next one: its [`Attempt::number`] is above 1.
//!
//! None of these promises cover runs under [`StoreFailurePolicy::FailOpen`].
//!
//! A lease is not mutual exclusion over the outside world: an owner that was paused for longer than its lease may make its
//! effect after another one took over. Pass [`Attempt::fence`] to the system that the handler changes, or
//! [`Attempt::downstream_key`] to a service that has idempotency keys of its own.
//!
//! # Features
//!
//! Both are off by default: `postcard` (a compact codec for the values of handlers) and `metrics` (counters through the
//! `metrics` facade).
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
pub mod backend;
mod backoff;
mod codec;
mod engine;
mod error;
mod fingerprint;
mod key;
pub mod observe;
mod policy;
pub mod store;
mod sync;
mod time;
mod unwind;

pub use answer::{Answer, Format, StoredValue};
pub use codec::{Codec, CodecError};
pub use engine::Engine;
pub use engine::admission::Admission;
pub use engine::attempt::Attempt;
pub use engine::builder::{EngineBuilder, InvalidPolicy};
pub use engine::outcome::{ExecuteError, Outcome};
pub use engine::receipt::{Receipt, ReceiptOutcome};
pub use engine::reservation::{FinishOutcome, Reservation};
pub use engine::resolve::{Resolution, ResolveOutcome};
pub use engine::shutdown::ShutdownReport;
pub use engine::tracker::EngineShutdown;
pub use error::{Effect, Operation, StoreError, StoreErrorKind};
pub use fingerprint::{Fingerprint, FingerprintParts};
pub use key::{InvalidKey, Key, KeyDigest, MAX_PART_BYTES};
pub use policy::{ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, StoreFailurePolicy};
pub use store::{
    AbandonOutcome, CompleteOutcome, FencingToken, ReleaseOutcome, RenewOutcome, ReservationStore,
};
