//! An idempotency engine.
//!
//! A client times out and sends its request again; a queue delivers twice; a user double-clicks. This crate lets the
//! handler run once: it takes an atomic *reservation* of the request's key before the handler runs, and gives every
//! other caller the first one's answer, or tells it that the first is still running.
//!
//! - [`Engine`] runs one operation: [`execute`](Engine::execute) takes a [`Key`], a [`Fingerprint`] and a handler.
//! - [`Attempt`] is what the handler is told: which attempt it is, its fencing token, whether its lease is lost.
//! - [`ReservationStore`] is what a storage has to do. The backend crates implement it (`idem-memory` for tests and
//!   single processes), and the suite in `conformance-tests` checks it.
//! - [`transition`] is the state machine as pure functions, for those who write a backend.
//!
//! The engine knows no backend and no HTTP.
//!
//! # What is promised, and what is not
//!
//! At most one live owner of a key at a time, by the store's own clock; at most one accepted completion, whose bytes
//! never change; only the current owner can settle a key; and an earlier attempt that may have had its effect is
//! visible to the next one, as [`Attempt::number`] above 1.
//!
//! A lease is not mutual exclusion over the outside world: an owner that was paused for longer than its lease may make
//! its effect after another has taken over. Hand [`Attempt::fence`] to what it changes, or
//! [`Attempt::downstream_key`] to services that have idempotency keys of their own.

mod admission;
mod answer;
mod attempt;
mod builder;
mod call;
mod codec;
mod engine;
mod error;
mod fingerprint;
mod flight;
mod given_up;
mod heartbeat;
mod key;
mod lane;
#[cfg(test)]
#[cfg(shuttle)]
mod model;
pub mod observe;
mod op;
mod outcome;
mod policy;
mod random;
mod record;
mod reservation;
mod resolve;
mod settlement;
mod shutdown;
mod store;
mod sync;
mod time;
pub mod transition;

pub use answer::{Answer, Format, Response};
pub use attempt::Attempt;
pub use builder::{EngineBuilder, InvalidPolicy};
pub use codec::{Codec, CodecError};
pub use engine::Engine;
pub use error::{Effect, Operation, StoreError, StoreErrorKind};
pub use fingerprint::Fingerprint;
pub use key::{InvalidKey, Key, KeyDigest, MAX_PART_BYTES};
pub use op::{
    AbandonOutcome, CompleteOutcome, Completion, InvalidDuration, MAX_DURATION, ReleaseOutcome, RenewOutcome,
    Reserve, ReserveOutcome, check_lease,
};
pub use outcome::{Admission, ExecuteError, Outcome};
pub use policy::{ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, StoreFailurePolicy};
pub use record::{FencingToken, InvalidFencingToken, OwnerToken, Record, RecordView, State, StateView};
pub use reservation::{Finished, Reservation};
pub use resolve::{Resolution, ResolveOutcome};
pub use shutdown::{EngineShutdown, ShutdownReport};
pub use store::ReservationStore;
pub use time::{Span, Timestamp};
