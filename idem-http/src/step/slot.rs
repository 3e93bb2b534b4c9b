//! [`Slot`]: holds the reservation while the handler runs.
//!
//! INV-1: either the layer or the handler has the reservation, never both. Its holder settles it, or drops it, which
//! abandons it.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Extensions, Response};
use idem_core::{Answer, Attempt, Receipt, Reservation};
use thiserror::Error;

use crate::body::read::Buffered;
use crate::config::Config;
use crate::response::stored::StoredResponse;
use crate::unprotected::UnprotectedRun;

/// Why a request has no transactional step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransactionalStepRejection {
    /// The request did not pass through the layer, or bypassed it: for example it has no key, or another method.
    #[error("the request is not guarded by an idempotency key, and has no transactional step")]
    NotGuarded,
    /// The store was unavailable, and the engine is set to fail open.
    #[error("the request runs without protection, and has no transactional step")]
    Unprotected,
    /// The handler took the step before.
    #[error("the transactional step of this request was already taken")]
    AlreadyTaken,
}

/// The layer's side of a slot.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    attempt: Attempt,
    /// Counts a run without a reservation. The engine counts the others.
    _unprotected: Option<UnprotectedRun>,
}

/// The handler's side of a slot, in the request's extensions.
#[derive(Clone)]
pub(crate) struct StepHandle {
    shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
}

/// What a slot holds.
#[allow(
    clippy::large_enum_variant,
    reason = "the large variant is the common one, and there is one per request"
)]
pub(crate) enum SlotState {
    /// The handler has not taken the reservation.
    Reserved(Reservation),
    /// The handler took the reservation. The receipt says what became of it.
    HandedOut(Receipt),
    /// The store was unavailable, so there is nothing to settle.
    Unprotected,
    /// The handler has ended.
    Closed,
}

/// The response that the handler encoded last, and the answer that it became.
struct Encoded {
    answer: Answer,
    response: Response<Buffered>,
}

struct Shared {
    state: Mutex<SlotState>,
    encoded: Mutex<Option<Encoded>>,
}

impl Slot {
    pub(crate) fn reserved(reservation: Reservation) -> Self {
        let attempt = reservation.attempt().clone();
        Self::new(SlotState::Reserved(reservation), attempt, None)
    }

    pub(crate) fn unprotected(attempt: Attempt, run: UnprotectedRun) -> Self {
        Self::new(SlotState::Unprotected, attempt, Some(run))
    }

    fn new(state: SlotState, attempt: Attempt, unprotected: Option<UnprotectedRun>) -> Self {
        let shared = Shared { state: Mutex::new(state), encoded: Mutex::new(None) };
        Self { shared: Arc::new(shared), attempt, _unprotected: unprotected }
    }

    pub(crate) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    pub(crate) fn handle(&self, config: &Arc<Config>) -> StepHandle {
        StepHandle { shared: Arc::clone(&self.shared), config: Arc::clone(config) }
    }

    /// Takes back what the handler has left. From then on the handler cannot take the step.
    pub(crate) fn close(&self) -> SlotState {
        mem::replace(&mut *lock(&self.shared.state), SlotState::Closed)
    }

    /// The response that the handler encoded, if this answer was committed.
    ///
    /// The body is complete, even if it was not kept. If it was kept, the head is the stored one, so that the first
    /// client gets the same headers as its duplicates.
    pub(crate) fn committed_response(&self, committed: &Answer) -> Option<Response<Buffered>> {
        let encoded = lock(&self.shared.encoded).take().filter(|encoded| encoded.answer == *committed)?;
        match committed {
            Answer::Value(value) => StoredResponse::decode(value).ok().map(StoredResponse::into_response),
            Answer::NotKept => Some(encoded.response),
        }
    }
}

impl StepHandle {
    /// Whether a request has a slot of the layer with these settings.
    pub(crate) fn is_of(extensions: &Extensions, config: &Arc<Config>) -> bool {
        extensions.get::<Self>().is_some_and(|handle| Arc::ptr_eq(&handle.config, config))
    }

    /// Hands the reservation out, once.
    pub(super) fn take(&self) -> Result<Reservation, TransactionalStepRejection> {
        let mut state = lock(&self.shared.state);
        match mem::replace(&mut *state, SlotState::Closed) {
            SlotState::Reserved(reservation) => {
                let (reservation, receipt) = reservation.hand_out();
                *state = SlotState::HandedOut(receipt);
                Ok(reservation)
            }
            SlotState::Unprotected => {
                *state = SlotState::Unprotected;
                Err(TransactionalStepRejection::Unprotected)
            }
            taken @ (SlotState::HandedOut(_) | SlotState::Closed) => {
                *state = taken;
                Err(TransactionalStepRejection::AlreadyTaken)
            }
        }
    }

    pub(super) fn remember(&self, answer: Answer, response: Response<Buffered>) {
        *lock(&self.shared.encoded) = Some(Encoded { answer, response });
    }
}

/// Ignores poisoning: a value behind these locks is always replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
