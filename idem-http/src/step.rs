//! [`TransactionalStep`]: the reservation itself, for handlers that complete it inside of their own transaction.
//!
//! The layer knows no backend. It puts the reservation into a slot of the request's extensions; the handler takes it
//! out, once, and hands it to a backend that can commit an effect together with its completion. Afterwards the layer
//! asks the store what was committed, and answers from that.
//!
//! INV-1: exactly one of the layer and the handler has the reservation. Whoever has it settles it, or drops it, which
//! abandons it.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Extensions, Response};
use idem_core::store::OwnerToken;
use idem_core::{Answer, Attempt, Reservation};
use thiserror::Error;

use crate::body::Collected;
use crate::layer::Config;
use crate::stored::Stored;
use crate::unprotected::Running;

/// The reservation of the request that a handler runs under, to be completed together with the handler's effect in one
/// transaction of the store. Then the effect happens exactly once, through crashes and lost leases.
///
/// - It can be taken once. Who takes it settles it; dropped, it is *abandoned*.
/// - After the handler, the layer answers from what the store has committed, whatever the handler returned. If nothing
///   was, an error of the handler's goes to its client as it is, and a success becomes a 500: it did not happen.
/// - Complete it with what the [`Recorder`] makes: the layer can read nothing else.
/// - A transaction that is rolled back releases the key (the backend does that), and the next request runs at once.
///
/// With the feature `axum` it is an extractor; otherwise [`take`](Self::take) it. With SQLite:
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use idem_http::TransactionalStep;
/// use idem_sqlite::{SqliteStore, TransactionOutcome};
///
/// /// Creates a row, and completes the request with the response that names it.
/// async fn create(store: &SqliteStore, step: TransactionalStep) -> Response<Bytes> {
///     let (reservation, recorder) = step.into_parts();
///     let created = store.complete_reservation(reservation, move |connection| {
///         connection.execute("INSERT INTO orders DEFAULT VALUES", ())?;
///         let response = Response::new(format!("order {}", connection.last_insert_rowid()));
///         Ok::<_, rusqlite::Error>(((), recorder.record(response)))
///     });
///     match created.await {
///         Ok(TransactionOutcome::Completed(())) => Response::new(Bytes::new()), // replaced by what was committed
///         _ => {
///             let mut failed = Response::new(Bytes::new());
///             *failed.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
///             failed
///         }
///     }
/// }
/// ```
///
/// With Postgres, `reservation.begin_transaction(&store)` of `idem-postgres` gives an open transaction, whose `complete`
/// takes what the recorder made.
#[must_use = "a step that is dropped is abandoned"]
pub struct TransactionalStep {
    reservation: Reservation,
    recorder: Recorder,
}

impl TransactionalStep {
    /// Takes the step of a guarded request.
    pub fn take(extensions: &Extensions) -> Result<Self, NoStep> {
        let handle = extensions.get::<Handle>().ok_or(NoStep::NotGuarded)?;
        let mut held = handle.slot.held();
        match mem::replace(&mut *held, Held::Taken) {
            Held::Reservation(reservation) => {
                Ok(Self { reservation, recorder: Recorder { handle: handle.clone() } })
            }
            Held::Unprotected => {
                *held = Held::Unprotected;
                Err(NoStep::Unprotected)
            }
            Held::Taken => Err(NoStep::Taken),
        }
    }

    /// The reservation, for a backend that completes it; and what makes the answer that it is completed with.
    pub fn into_parts(self) -> (Reservation, Recorder) {
        (self.reservation, self.recorder)
    }

    /// Which attempt this is.
    pub fn attempt(&self) -> &Attempt {
        self.reservation.attempt()
    }
}

impl fmt::Debug for TransactionalStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalStep").field("reservation", &self.reservation).finish_non_exhaustive()
    }
}

/// There is no step to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoStep {
    /// The request did not come through the layer, or passed it by: it has no key, or another method.
    #[error("the request is not guarded by an idempotency key, and has no transactional step")]
    NotGuarded,
    /// The store could not be reached, and the engine is set to fail open.
    #[error("the request runs without protection, and has no transactional step")]
    Unprotected,
    /// It was taken before.
    #[error("the transactional step of this request was taken before")]
    Taken,
}

/// Turns a handler's response into the answer that its request is completed with: what the layer keeps of it, in the
/// form in which the layer reads it.
#[derive(Clone)]
pub struct Recorder {
    handle: Handle,
}

impl Recorder {
    /// The answer to complete the reservation with. A body over the layer's limit is not kept: its client gets it all
    /// the same.
    #[must_use = "the reservation has to be completed with it"]
    pub fn record(&self, response: Response<impl Into<Bytes>>) -> Answer {
        let (head, body) = response.into_parts();
        let body = body.into();
        let config = &self.handle.config;
        let stored = Stored::of(&head, body.clone(), None, &config.never_stored);
        let is_kept = body.len() <= config.max_response_bytes;
        let answer = if is_kept { Answer::Value(stored.encode()) } else { Answer::NotKept };
        let first_hand = Response::from_parts(head, Collected { bytes: body, trailers: None });
        *lock(&self.handle.slot.recorded) = Some((answer.clone(), first_hand));
        answer
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// Where the reservation is while the handler runs.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    attempt: Attempt,
    /// The token of the reservation, if there is one.
    owner: Option<OwnerToken>,
    /// Counts the run if it has no reservation, which is counted by its engine.
    _running: Option<Running>,
}

struct Shared {
    held: Mutex<Held>,
    /// The answer that was recorded last, and the whole response.
    recorded: Mutex<Option<(Answer, Response<Collected>)>>,
}

/// What is in a slot.
#[allow(
    clippy::large_enum_variant,
    reason = "the large variant is the common one, and there is one a request"
)]
pub(crate) enum Held {
    Reservation(Reservation),
    /// The store could not be reached: there is nothing to settle.
    Unprotected,
    /// The handler has it, or had it.
    Taken,
}

/// The handler's side of a slot, in the request's extensions.
#[derive(Clone)]
pub(crate) struct Handle {
    slot: Arc<Shared>,
    config: Arc<Config>,
}

impl Handle {
    /// Whether a request has a slot of the layer with these settings.
    pub(crate) fn is_of(extensions: &Extensions, config: &Arc<Config>) -> bool {
        extensions.get::<Self>().is_some_and(|handle| Arc::ptr_eq(&handle.config, config))
    }
}

impl Slot {
    pub(crate) fn holding(reservation: Reservation) -> Self {
        let (attempt, owner) = (reservation.attempt().clone(), idem_core::backend::owner(&reservation));
        Self::of(Held::Reservation(reservation), attempt, Some(owner), None)
    }

    pub(crate) fn unprotected(attempt: Attempt, running: Running) -> Self {
        Self::of(Held::Unprotected, attempt, None, Some(running))
    }

    fn of(held: Held, attempt: Attempt, owner: Option<OwnerToken>, running: Option<Running>) -> Self {
        let shared = Shared { held: Mutex::new(held), recorded: Mutex::new(None) };
        Self { shared: Arc::new(shared), attempt, owner, _running: running }
    }

    pub(crate) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    pub(crate) fn owner(&self) -> Option<OwnerToken> {
        self.owner
    }

    pub(crate) fn handle(&self, config: &Arc<Config>) -> Handle {
        Handle { slot: Arc::clone(&self.shared), config: Arc::clone(config) }
    }

    /// Takes back what the handler has left. From then on the handler finds nothing.
    pub(crate) fn take(&self) -> Held {
        mem::replace(&mut *self.shared.held(), Held::Taken)
    }

    /// The response that was recorded, if it is this answer that was committed. Its body is there in full, and its head
    /// is the committed one: a cookie, say, is not given to the first client alone.
    pub(crate) fn recorded(&self, committed: &Answer) -> Option<Response<Collected>> {
        let (answer, first_hand) = lock(&self.shared.recorded).take()?;
        if answer != *committed {
            return None;
        }
        match committed {
            Answer::Value(response) => Stored::decode(response).ok().map(Stored::into_response),
            Answer::NotKept => Some(first_hand),
        }
    }
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

/// A poisoned lock is as good as any: what is behind it is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
