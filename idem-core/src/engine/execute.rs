//! [`execute`]: runs a handler under a key, from the admission to the settlement.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::answer::{Answer, Format, StoredValue};
use crate::codec::{Codec, CodecError, check_format};
use crate::engine::admission::{Admission, admit};
use crate::engine::attempt::Attempt;
use crate::engine::outcome::{ExecuteError, Outcome};
use crate::engine::reservation::{FinishOutcome, Reservation};
use crate::engine::shared::Shared;
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::observe;
use crate::policy::HandlerErrorPolicy;
use crate::unwind::catch_unwind;

/// How a handler's value becomes a stored value, and back.
pub(crate) trait Values<T> {
    fn encode(&self, value: &T) -> Result<StoredValue, CodecError>;
    fn decode(&self, stored: StoredValue) -> Result<T, CodecError>;
}

/// Values are written with the engine's codec.
pub(crate) struct Coded {
    pub(crate) codec: Codec,
    pub(crate) schema: u32,
}

impl<T: Serialize + DeserializeOwned> Values<T> for Coded {
    fn encode(&self, value: &T) -> Result<StoredValue, CodecError> {
        self.codec.encode(self.schema, value)
    }

    fn decode(&self, stored: StoredValue) -> Result<T, CodecError> {
        self.codec.decode(self.schema, &stored)
    }
}

/// Values are bytes, and are stored as they are.
pub(crate) struct Uncoded;

impl Values<Bytes> for Uncoded {
    fn encode(&self, value: &Bytes) -> Result<StoredValue, CodecError> {
        Ok(StoredValue::bytes(value.clone()))
    }

    fn decode(&self, stored: StoredValue) -> Result<Bytes, CodecError> {
        check_format(Format::BYTES, stored.format)?;
        Ok(stored.body)
    }
}

/// [`Engine::execute`](crate::Engine::execute), for each way to store values.
pub(crate) async fn execute<T, E, F, Fut>(
    shared: &Arc<Shared>,
    key: &Key,
    fingerprint: &Fingerprint,
    handler: F,
    values: impl Values<T>,
) -> Result<Outcome<T>, ExecuteError<E>>
where
    F: FnOnce(Attempt) -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
{
    let span = tracing::debug_span!(target: "idem_core", "idem.execute", key = %key.digest());
    let result = admit_and_run(shared, key, fingerprint, handler, values).instrument(span).await;
    observe::executed(&result);
    result
}

async fn admit_and_run<T, E, F, Fut>(
    shared: &Arc<Shared>,
    key: &Key,
    fingerprint: &Fingerprint,
    handler: F,
    values: impl Values<T>,
) -> Result<Outcome<T>, ExecuteError<E>>
where
    F: FnOnce(Attempt) -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
{
    let admitted = admit(shared, key, fingerprint).await?;
    Ok(match admitted.admission {
        Admission::Granted(reservation) => return run(shared, reservation, handler, values).await,
        Admission::Unprotected(attempt) => {
            let result = handler(attempt).await;
            drop(admitted.unprotected);
            Outcome::Unprotected(result.map_err(ExecuteError::Handler)?)
        }
        Admission::Replayed(stored) => Outcome::Replayed(values.decode(stored)?),
        Admission::InFlight { retry_after } => Outcome::InFlight { retry_after },
        Admission::FingerprintMismatch => Outcome::FingerprintMismatch,
        Admission::LeaseExpired { attempt } => Outcome::LeaseExpired { attempt },
        Admission::NotKept => Outcome::NotKept,
    })
}

async fn run<T, E, F, Fut>(
    shared: &Shared,
    reservation: Reservation,
    handler: F,
    values: impl Values<T>,
) -> Result<Outcome<T>, ExecuteError<E>>
where
    F: FnOnce(Attempt) -> Fut + Send,
    Fut: Future<Output = Result<T, E>> + Send,
{
    let attempt = reservation.attempt().clone();
    // The rare ends are boxed, so that the future of a run is not as large as the sum of all of them.
    let value = match catch_unwind(async move { handler(attempt).await }).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            // The caller gets the handler's error, whatever the store answers. A settlement that is not acknowledged in
            // time continues in the background.
            match shared.settings.handler_error {
                HandlerErrorPolicy::Release => drop(Box::pin(reservation.release()).await),
                HandlerErrorPolicy::Abandon => drop(Box::pin(reservation.abandon()).await),
            }
            return Err(ExecuteError::Handler(error));
        }
        Err(panic) => {
            // A panic of the store is caught, so that the caller gets the handler's panic.
            drop(Box::pin(catch_unwind(reservation.abandon())).await);
            resume_unwind(panic);
        }
    };
    // The handler ran. If its value cannot be encoded, its duplicates must not run either.
    let answer = match std::panic::catch_unwind(AssertUnwindSafe(|| values.encode(&value))) {
        Ok(Ok(stored)) => Answer::Value(stored),
        Ok(Err(error)) => {
            drop(Box::pin(reservation.complete(Answer::NotKept)).await);
            return Err(error.into());
        }
        Err(panic) => {
            drop(Box::pin(catch_unwind(reservation.complete(Answer::NotKept))).await);
            resume_unwind(panic);
        }
    };
    Ok(match reservation.finish(answer).await {
        FinishOutcome::Accepted => Outcome::Executed(value),
        FinishOutcome::Superseded(Answer::Value(stored)) => Outcome::Replayed(values.decode(stored)?),
        FinishOutcome::Superseded(Answer::NotKept) => Outcome::NotKept,
        FinishOutcome::LeaseLost => Outcome::LeaseLost(value),
        FinishOutcome::Unrecorded(error) => Outcome::Unrecorded { value, error },
    })
}
