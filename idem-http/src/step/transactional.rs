//! [`TransactionalStep`]: lets a handler complete its request in its own database transaction.
//!
//! The layer knows no backend. The handler takes the reservation, once, and passes it to a backend that commits an
//! effect together with its completion. After the handler, the layer asks the engine what was committed, and responds
//! with that.

use std::fmt;

use bytes::Bytes;
use http::{Extensions, Response};
use idem_core::{Answer, Attempt, Reservation};

use crate::body::read::Buffered;
use crate::response::stored::StoredResponse;
use crate::step::slot::{StepHandle, TransactionalStepRejection};

/// The reservation of the current request, which the handler completes in the same transaction as its effect.
///
/// The effect then happens exactly once, through crashes and lost leases.
///
/// - A handler can take the step once. It then settles the reservation; if it drops it, the key is *abandoned*.
/// - After the handler, the layer responds with what the store has committed, whatever the handler returned. If nothing
///   was committed, the client gets the handler's response if that is an error; a success becomes a 500.
/// - Complete the reservation with the answer that [`ResponseEncoder::encode`] returns. The layer cannot read any other.
/// - A transaction that is rolled back releases the key (the backend does that), and the next request runs at once.
///
/// With the feature `axum` it is an extractor. Without it, call [`take`](Self::take). With SQLite:
///
/// ```
/// use bytes::Bytes;
/// use http::Response;
/// use idem_http::TransactionalStep;
/// use idem_sqlite::{SqliteStore, TransactionOutcome};
///
/// /// Creates a row, and completes the request with a response that names it.
/// async fn create(store: &SqliteStore, step: TransactionalStep) -> Response<Bytes> {
///     let (reservation, encoder) = step.into_parts();
///     let created = store.complete_reservation(reservation, move |connection| {
///         connection.execute("INSERT INTO orders DEFAULT VALUES", ())?;
///         let response = Response::new(format!("order {}", connection.last_insert_rowid()));
///         Ok::<_, rusqlite::Error>(((), encoder.encode(response)))
///     });
///     match created.await {
///         Ok(TransactionOutcome::Completed(())) => Response::new(Bytes::new()), // the layer sends the committed one
///         _ => {
///             let mut failed = Response::new(Bytes::new());
///             *failed.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
///             failed
///         }
///     }
/// }
/// ```
///
/// With Postgres, `reservation.begin_transaction(&store)` from `idem-postgres` opens a transaction. Its `complete` takes
/// the encoder's answer.
#[must_use = "a step that is dropped is abandoned"]
pub struct TransactionalStep {
    reservation: Reservation,
    encoder: ResponseEncoder,
}

impl TransactionalStep {
    /// Takes the step of a guarded request.
    pub fn take(extensions: &Extensions) -> Result<Self, TransactionalStepRejection> {
        let handle = extensions.get::<StepHandle>().ok_or(TransactionalStepRejection::NotGuarded)?;
        let reservation = handle.take()?;
        Ok(Self { reservation, encoder: ResponseEncoder { handle: handle.clone() } })
    }

    /// Returns the reservation, for a backend that completes it, and the encoder of the response.
    pub fn into_parts(self) -> (Reservation, ResponseEncoder) {
        (self.reservation, self.encoder)
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

/// Encodes the response of a transactional step as the answer to complete the reservation with.
#[derive(Clone)]
pub struct ResponseEncoder {
    handle: StepHandle,
}

impl ResponseEncoder {
    /// Encodes the response in the layer's own format, as far as it is stored.
    ///
    /// A body that is larger than the layer's limit becomes [`Answer::NotKept`]; the client still gets all of it.
    #[must_use = "complete the reservation with it"]
    pub fn encode(&self, response: Response<impl Into<Bytes>>) -> Answer {
        let config = &self.handle.config;
        let (head, body) = response.into_parts();
        let body = Buffered { bytes: body.into(), trailers: None };
        let answer = if body.bytes.len() <= config.max_response_bytes {
            Answer::Value(StoredResponse::new(&head, &body, &config.exclude_headers).encode())
        } else {
            Answer::NotKept
        };
        self.handle.remember(answer.clone(), Response::from_parts(head, body));
        answer
    }
}

impl fmt::Debug for ResponseEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseEncoder").finish_non_exhaustive()
    }
}
