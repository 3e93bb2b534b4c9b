//! [`IdempotencyLayer`] and its builder.

mod builder;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use idem_core::Engine;
use tower_layer::Layer;

use crate::config::{Config, WithoutKey};
use crate::service::Idempotency;

pub use self::builder::{HasScope, IdempotencyLayerBuilder, NeedsScope, Scoped};

/// A tower layer that runs each request once and gives its duplicates the first response.
///
/// [The crate's front page](crate) has an example. A layer without a scope does not compile, because the scope decides
/// who gets whose responses.
#[derive(Clone)]
pub struct IdempotencyLayer {
    config: Arc<Config>,
}

impl IdempotencyLayer {
    /// Starts a layer with the default settings.
    ///
    /// Leases, retention, waiting for running duplicates and the behaviour when the store fails are settings of the
    /// engine.
    pub fn builder(engine: Engine) -> IdempotencyLayerBuilder<NeedsScope> {
        IdempotencyLayerBuilder { config: Config::new(engine), scope: PhantomData }
    }

    /// Refuses new requests with 503, waits up to `deadline` for running handlers, and abandons the rest.
    ///
    /// It calls [`Engine::shutdown`] on the layer's engine and on the engine for requests without a key. It also waits
    /// for handlers that run without protection; they have no key to abandon.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let without_key = async {
            match &self.config.without_key {
                WithoutKey::Fingerprint(engine) => Some(engine.shutdown(deadline).await),
                WithoutKey::Bypass | WithoutKey::Refuse => None,
            }
        };
        // The engines come first: once they are closed, no further handler starts without protection.
        let (keys, fingerprints, unprotected) = tokio::join!(
            self.config.engine.shutdown(deadline),
            without_key,
            self.config.unprotected.drained(deadline)
        );
        ShutdownReport { keys, fingerprints, unprotected }
    }
}

impl<S> IdempotencyLayerBuilder<S> {
    /// Builds the layer.
    ///
    /// This needs a scope: call [`scope`](IdempotencyLayerBuilder::scope) or
    /// [`unscoped`](IdempotencyLayerBuilder::unscoped) first.
    pub fn build(self) -> IdempotencyLayer
    where
        S: HasScope,
    {
        IdempotencyLayer { config: Arc::new(self.config) }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency::new(inner, Arc::clone(&self.config))
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("engine", &self.config.engine).finish_non_exhaustive()
    }
}

/// How [`IdempotencyLayer::shutdown`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it says what was left undone"]
pub struct ShutdownReport {
    /// The report of the engine for requests with a key.
    pub keys: idem_core::ShutdownReport,
    /// The report of the engine for requests without a key, if there is one.
    pub fingerprints: Option<idem_core::ShutdownReport>,
    /// How many handlers without protection were still running at the deadline, with and without a key.
    pub unprotected: usize,
}
