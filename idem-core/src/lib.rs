//! An idempotency engine.
//!
//! A client times out and sends its request again; a queue delivers twice; a user double-clicks. This crate lets the
//! handler run once: it takes an atomic *reservation* of the request's key before the handler runs, and gives every
//! other caller the first one's answer, or tells it that the first is still running.
//!
//! - [`Key`] and [`Fingerprint`] say what "the same request" is.
//! - [`ReservationStore`] is what a storage has to do; the backend crates implement it, and [`transition`] is its
//!   state machine as pure functions.

mod codec;
mod error;
mod fingerprint;
mod key;
mod op;
mod policy;
mod random;
mod record;
mod store;
pub mod transition;

pub use codec::{Codec, CodecError};
pub use error::{Effect, Operation, StoreError, StoreErrorKind};
pub use fingerprint::Fingerprint;
pub use key::{InvalidKey, Key, KeyDigest, MAX_PART_BYTES};
pub use op::{
    AbandonOutcome, CompleteOutcome, Completion, InvalidDuration, MAX_DURATION, ReleaseOutcome, RenewOutcome,
    Reserve, ReserveOutcome, check_lease,
};
pub use policy::{ExpiredLeasePolicy, HandlerErrorPolicy, InFlightPolicy, StoreFailurePolicy};
pub use record::{
    Answer, FencingToken, Format, InvalidFencingToken, OwnerToken, Record, RecordView, Response, Span, State,
    StateView, Timestamp,
};
pub use store::ReservationStore;
