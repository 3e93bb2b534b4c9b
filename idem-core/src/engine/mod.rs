//! [`Engine`]: runs one operation at most once.

pub(crate) mod admission;
pub(crate) mod attempt;
pub(crate) mod builder;
mod execute;
mod heartbeat;
#[cfg(test)]
#[cfg(shuttle)]
mod model;
pub(crate) mod outcome;
pub(crate) mod receipt;
pub(crate) mod reservation;
mod reserve;
pub(crate) mod resolve;
mod retry;
pub(crate) mod run;
mod settle_on_drop;
mod settlement;
mod shared;
pub(crate) mod shutdown;
mod single_flight;
pub(crate) mod tracker;

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use crate::engine::admission::{Admission, admit};
use crate::engine::attempt::Attempt;
use crate::engine::execute::{Coded, Uncoded, execute};
use crate::engine::outcome::{ExecuteError, Outcome};
use crate::engine::shared::{Settings, Shared};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::store::ReservationStore;

/// Runs handlers at most once per key, over any [`ReservationStore`].
///
/// It needs a tokio runtime with the timer enabled, and may be used from several runtimes. Cloning is cheap: all clones
/// are the same engine, with one heartbeat, one group of waiters and one shutdown.
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
///         println!("attempt {} with fence {}", attempt.number, attempt.fence);
///         Ok::<_, std::io::Error>(4711) // the number of the payment
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

impl Engine {
    /// Runs `handler` unless this request ran before or is running, and stores its value for duplicates.
    ///
    /// - The handler's value is returned after the store acknowledged it ([`Outcome::Executed`]).
    /// - The handler's error releases the key and is returned as it is ([`ExecuteError::Handler`]).
    /// - A panic of the handler abandons the key, and then continues in the caller.
    /// - If this future is dropped while the handler runs, the key is abandoned in the background. If it is dropped after
    ///   the handler has returned, its completion continues in the background. For a handler that must not be cancelled,
    ///   use [`execute_detached`](Self::execute_detached).
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
        let Settings { codec, schema, .. } = self.shared.settings;
        execute(&self.shared, key, fingerprint, handler, Coded { codec, schema }).await
    }

    /// As [`execute`](Self::execute), for bytes: they are stored and replayed as they are, without a copy.
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
        execute(&self.shared, key, fingerprint, handler, Uncoded).await
    }

    /// As [`execute`](Self::execute), in a task of its own: dropping this future cancels nothing. A client that hangs up
    /// gets its answer when it asks again.
    ///
    /// # Panics
    ///
    /// If it is called outside a tokio runtime, if that runtime is shut down while a caller in another one waits, and
    /// with the handler's own panic.
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
        detached(async move { engine.execute(&key, &fingerprint, handler).await }).await
    }

    /// As [`execute_detached`](Self::execute_detached), for bytes, as [`execute_bytes`](Self::execute_bytes).
    ///
    /// # Panics
    ///
    /// As [`execute_detached`](Self::execute_detached).
    pub async fn execute_bytes_detached<E, F, Fut>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        handler: F,
    ) -> Result<Outcome<Bytes>, ExecuteError<E>>
    where
        E: Send + 'static,
        F: FnOnce(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Bytes, E>> + Send + 'static,
    {
        let (engine, key, fingerprint) = (self.clone(), key.clone(), *fingerprint);
        detached(async move { engine.execute_bytes(&key, &fingerprint, handler).await }).await
    }

    /// Reserves the key and leaves the run to the caller. Use it where the work does not fit into a handler.
    ///
    /// With [`InFlightPolicy::Wait`](crate::InFlightPolicy::Wait) it waits as `execute` does.
    pub async fn reserve(&self, key: &Key, fingerprint: &Fingerprint) -> Result<Admission, StoreError> {
        admit(&self.shared, key, fingerprint).await.map(|admitted| admitted.admission)
    }

    /// The store of this engine.
    pub fn store(&self) -> &Arc<dyn ReservationStore> {
        &self.shared.store
    }

    pub(crate) fn new(store: Arc<dyn ReservationStore>, settings: Settings) -> Self {
        Self { shared: Shared::new(store, settings) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.shared.store)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// Runs a future in a task, with the caller's span, and returns its output or continues its panic.
async fn detached<R: Send + 'static>(run: impl Future<Output = R> + Send + 'static) -> R {
    match tokio::spawn(run.in_current_span()).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => panic!("the runtime of a detached handler was shut down: {cancelled}"),
        },
    }
}
