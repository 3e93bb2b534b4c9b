//! [`Engine`]: runs one operation at most once.

mod admission;
pub(crate) mod attempt;
pub(crate) mod builder;
mod given_up;
mod heartbeat;
#[cfg(test)]
#[cfg(shuttle)]
mod model;
pub(crate) mod outcome;
pub(crate) mod receipt;
pub(crate) mod reservation;
pub(crate) mod resolve;
mod retry;
mod settlement;
pub(crate) mod shutdown;
mod single_flight;

use std::fmt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::codec::check_format;
use crate::engine::admission::admit;
use crate::engine::builder::{EngineBuilder, Policy};
use crate::engine::heartbeat::Heartbeat;
use crate::engine::reservation::FinishOutcome;
use crate::engine::shutdown::Activity;
use crate::engine::single_flight::Flights;
use crate::unwind::catch_unwind;
use crate::{
    Admission, Answer, Attempt, Codec, CodecError, ExecuteError, Fingerprint, Format, HandlerErrorPolicy,
    Key, Outcome, Reservation, ReservationStore, StoreError, StoredValue, observe,
};

/// Runs handlers at most once per key, over any [`ReservationStore`].
///
/// An engine belongs to a tokio runtime with its timer enabled; it may be used from several. Cloning it is cheap, and
/// all clones are one engine: they share the heartbeat, the waiters and the shutdown.
///
/// ```no_run
/// # async fn example(store: impl idem_core::ReservationStore) -> Result<(), Box<dyn std::error::Error>> {
/// use idem_core::{Engine, Fingerprint, Key, Outcome};
///
/// let engine = Engine::builder(store).build()?;
/// let key = Key::new("tenant-7/POST /payments", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
/// let fingerprint = Fingerprint::from_parts(["POST", "/payments", r#"{"amount": 100}"#]);
///
/// let outcome: Outcome<u64> = engine
///     .execute(&key, &fingerprint, |attempt| async move {
///         println!("attempt {} under fence {}", attempt.number, attempt.fence);
///         Ok::<_, std::io::Error>(4711) // the number of the payment that was made
///     })
///     .await?;
/// match outcome {
///     Outcome::Executed(payment) | Outcome::Replayed(payment) => println!("payment {payment}"),
///     Outcome::InFlight { retry_after } => println!("still running; ask again in {retry_after:?}"),
///     other => println!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What the engine's parts share. Each reservation keeps it, so it is dropped with the last clone of the engine and
/// the last of its reservations.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn ReservationStore>,
    pub(crate) policy: Policy,
    pub(crate) heartbeat: Arc<Heartbeat>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) activity: Activity,
    /// Places for the releases of given-up reservations.
    pub(crate) given_up: Arc<Semaphore>,
}

impl Engine {
    /// Starts the settings of an engine over `store`.
    pub fn builder(store: impl ReservationStore) -> EngineBuilder {
        EngineBuilder::new(Arc::new(store))
    }

    /// Runs `handler` unless this request ran before or is running, and stores its value for duplicates.
    ///
    /// - The handler's value is returned only after the store acknowledged it ([`Outcome::Executed`]).
    /// - The handler's error frees the key and is returned untouched ([`ExecuteError::Handler`]).
    /// - A panic abandons the key, and goes on in the caller once that is acknowledged.
    /// - If this future is dropped while the handler runs, the key is abandoned in the background. Once the handler
    ///   has returned, its completion goes on in the background instead. See
    ///   [`execute_detached`](Self::execute_detached) for a handler that must not be cancelled.
    pub async fn execute<T, E, F, Fut>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        handler: F,
    ) -> Result<Outcome<T>, ExecuteError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce(Attempt) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let values = Coded { codec: self.shared.policy.codec, schema: self.shared.policy.schema };
        self.execute_as(key, fingerprint, handler, values).await
    }

    /// [`execute`](Self::execute) for bytes, which are stored and replayed untouched and uncopied.
    pub async fn execute_bytes<E, F, Fut>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        handler: F,
    ) -> Result<Outcome<Bytes>, ExecuteError<E>>
    where
        F: FnOnce(Attempt) -> Fut + Send,
        Fut: Future<Output = Result<Bytes, E>> + Send,
    {
        self.execute_as(key, fingerprint, handler, Untouched).await
    }

    /// [`execute`](Self::execute) in a task of its own: dropping this future cancels nothing, so that a client that
    /// hangs up gets its answer when it asks again.
    ///
    /// # Panics
    ///
    /// If it is not called within a tokio runtime, or if that is shut down while the caller, in another one, waits;
    /// and with the handler's own panic.
    pub async fn execute_detached<T, E, F, Fut>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        handler: F,
    ) -> Result<Outcome<T>, ExecuteError<E>>
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (engine, key, fingerprint) = (self.clone(), key.clone(), *fingerprint);
        let task =
            tokio::spawn(async move { engine.execute(&key, &fingerprint, handler).await }.in_current_span());
        match task.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(cancelled) => panic!("the runtime of a detached handler was shut down: {cancelled}"),
            },
        }
    }

    /// Asks for the key and leaves the rest to the caller: for those who cannot hand over a handler.
    ///
    /// Under [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) it waits as `execute` does.
    pub async fn reserve(&self, key: &Key, fingerprint: &Fingerprint) -> Result<Admission, StoreError> {
        admit(&self.shared, key, fingerprint).await.map(|admitted| admitted.admission)
    }

    /// The store that this engine runs on.
    pub fn store(&self) -> &Arc<dyn ReservationStore> {
        &self.shared.store
    }

    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    async fn execute_as<T, E, F, Fut>(
        &self,
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
        let result = self.admit_and_run(key, fingerprint, handler, values).instrument(span).await;
        observe::executed(&result);
        result
    }

    async fn admit_and_run<T, E, F, Fut>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        handler: F,
        values: impl Values<T>,
    ) -> Result<Outcome<T>, ExecuteError<E>>
    where
        F: FnOnce(Attempt) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let admitted = admit(&self.shared, key, fingerprint).await?;
        Ok(match admitted.admission {
            Admission::Granted(reservation) => {
                return self.run(reservation, handler, values).await;
            }
            Admission::Unprotected(attempt) => {
                let result = handler(attempt).await;
                drop(admitted.unprotected);
                Outcome::Unprotected(result.map_err(ExecuteError::Handler)?)
            }
            Admission::Replayed(response) => Outcome::Replayed(values.decode(response)?),
            Admission::InFlight { retry_after } => Outcome::InFlight { retry_after },
            Admission::FingerprintMismatch => Outcome::FingerprintMismatch,
            Admission::LeaseExpired { attempt } => Outcome::LeaseExpired { attempt },
            Admission::NotKept => Outcome::NotKept,
        })
    }

    async fn run<T, E, F, Fut>(
        &self,
        reservation: Reservation,
        handler: F,
        values: impl Values<T>,
    ) -> Result<Outcome<T>, ExecuteError<E>>
    where
        F: FnOnce(Attempt) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let attempt = reservation.attempt().clone();
        // The rarer ends are boxed, so that the future of a run is not as large as the sum of all of them.
        let value = match catch_unwind(async move { handler(attempt).await }).await {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => {
                // Whatever the store answers, the caller is owed its error; what was not acknowledged in time goes on
                // in the background.
                match self.shared.policy.handler_error {
                    HandlerErrorPolicy::Release => drop(Box::pin(reservation.release()).await),
                    HandlerErrorPolicy::Abandon => drop(Box::pin(reservation.abandon()).await),
                }
                return Err(ExecuteError::Handler(error));
            }
            Err(panic) => {
                // Caught, so that it is the handler's panic that goes on, whatever the store does.
                drop(Box::pin(catch_unwind(reservation.abandon())).await);
                resume_unwind(panic);
            }
        };
        // The handler ran. Its duplicates must not run too, only because its value has no bytes.
        let answer = match std::panic::catch_unwind(AssertUnwindSafe(|| values.encode(&value))) {
            Ok(Ok(response)) => Answer::Value(response),
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
            FinishOutcome::Superseded(Answer::Value(response)) => Outcome::Replayed(values.decode(response)?),
            FinishOutcome::Superseded(Answer::NotKept) => Outcome::NotKept,
            FinishOutcome::LeaseLost => Outcome::LeaseLost(value),
            FinishOutcome::Unrecorded(error) => Outcome::Unrecorded { value, error },
        })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.shared.store)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.heartbeat.close();
    }
}

/// How a handler's value and a stored response become each other.
trait Values<T> {
    fn encode(&self, value: &T) -> Result<StoredValue, CodecError>;
    fn decode(&self, response: StoredValue) -> Result<T, CodecError>;
}

/// By the engine's codec.
struct Coded {
    codec: Codec,
    schema: u32,
}

impl<T: Serialize + DeserializeOwned> Values<T> for Coded {
    fn encode(&self, value: &T) -> Result<StoredValue, CodecError> {
        self.codec.encode(self.schema, value)
    }

    fn decode(&self, response: StoredValue) -> Result<T, CodecError> {
        self.codec.decode(self.schema, &response)
    }
}

/// Not at all.
struct Untouched;

impl Values<Bytes> for Untouched {
    fn encode(&self, value: &Bytes) -> Result<StoredValue, CodecError> {
        Ok(StoredValue::bytes(value.clone()))
    }

    fn decode(&self, response: StoredValue) -> Result<Bytes, CodecError> {
        check_format(Format::BYTES, response.format)?;
        Ok(response.body)
    }
}
