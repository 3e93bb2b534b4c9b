//! [`IdempotencyLayer`] and its builder: everything that the layer is told before it starts.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, Method, response};
use idem_core::{Engine, ShutdownReport};
use tower_layer::Layer;

use crate::decide::{Disposition, Replay};
use crate::dialect::Dialect;
use crate::pass::GUARDED;
use crate::scope::{Scope, ScopeError, ScopeOf};
use crate::service::Idempotency;
use crate::unprotected::Unprotected;

/// A tower layer: each request runs once, and its duplicates are given its answer.
///
/// ```
/// # fn example(engine: idem_core::Engine) {
/// use idem_http::{IdempotencyLayer, Scope, ScopeError};
///
/// #[derive(Clone)]
/// struct Tenant(String); // put into the extensions by the authentication, which belongs outside of this layer
///
/// let layer = IdempotencyLayer::builder(engine)
///     .scope(|parts| Scope::principal(&parts.extensions.get::<Tenant>().ok_or(ScopeError::unauthenticated())?.0))
///     .require_key()
///     .build();
/// # }
/// ```
///
/// It does not build without a decision about the scope, since that decides who can be given whose answers:
///
/// ```compile_fail
/// # fn example(engine: idem_core::Engine) {
/// let layer = idem_http::IdempotencyLayer::builder(engine).build();
/// # }
/// ```
#[derive(Clone)]
pub struct IdempotencyLayer {
    config: Arc<Config>,
}

impl IdempotencyLayer {
    /// Starts the settings of a layer. The leases, the retention, the waiting and what happens when the store fails are
    /// the engine's.
    pub fn builder(engine: Engine) -> LayerBuilder<Unchosen> {
        LayerBuilder {
            config: Config {
                engine,
                without_key: WithoutKey::PassBy,
                scope: Box::new(|_| Ok(Scope::everybody())),
                operation: None,
                methods: GUARDED.to_vec(),
                max_request_bytes: 1 << 20,
                max_response_bytes: 1 << 20,
                retry_after_at_most: Duration::from_secs(1),
                disposition: Box::new(Disposition::of),
                veto: None,
                never_stored: Vec::new(),
                dialect: Dialect::default(),
                unprotected: Unprotected::default(),
            },
            scope: PhantomData,
        }
    }

    /// Refuses new requests with 503, waits for the handlers that run until `deadline` has passed, and abandons what
    /// remains: [`Engine::shutdown`] of the layer's engine, and of that of its fingerprint branch. Handlers that run
    /// without protection are waited for as well; there is nothing of theirs to be abandoned.
    pub async fn shutdown(&self, deadline: Duration) -> Shutdown {
        let fingerprints = async {
            match &self.config.without_key {
                WithoutKey::Fingerprint(engine) => Some(engine.shutdown(deadline).await),
                WithoutKey::PassBy | WithoutKey::Refused => None,
            }
        };
        // The engines come first: once they are closed, nobody else begins to run without protection.
        let (keys, fingerprints, unprotected) = tokio::join!(
            self.config.engine.shutdown(deadline),
            fingerprints,
            self.config.unprotected.drained(deadline)
        );
        Shutdown { keys, fingerprints, unprotected }
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
        f.debug_struct("IdempotencyLayer").field("config", &self.config).finish()
    }
}

/// How [`IdempotencyLayer::shutdown`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it says what was left undone"]
pub struct Shutdown {
    /// Of the requests with a key.
    pub keys: ShutdownReport,
    /// Of those without, if the fingerprint branch is on.
    pub fingerprints: Option<ShutdownReport>,
    /// Handlers of both that run without protection and were not over at the deadline.
    pub unprotected: usize,
}

/// The state of a builder whose scope is not decided yet.
#[derive(Debug)]
pub enum Unchosen {}

/// The state of a builder whose scope is decided.
#[derive(Debug)]
pub enum Chosen {}

/// Makes an [`IdempotencyLayer`]. `build` is there once [`scope`](Self::scope) or [`unscoped`](Self::unscoped) was
/// called.
#[must_use = "a builder does nothing until it is built"]
pub struct LayerBuilder<S> {
    config: Config,
    scope: PhantomData<S>,
}

impl LayerBuilder<Unchosen> {
    /// Says whose requests these are. Two scopes share nothing: the same key in both is two keys.
    pub fn scope(
        mut self,
        scope: impl Fn(&Parts) -> Result<Scope, ScopeError> + Send + Sync + 'static,
    ) -> LayerBuilder<Chosen> {
        self.config.scope = Box::new(scope);
        LayerBuilder { config: self.config, scope: PhantomData }
    }

    /// **Anybody who sends a key, guessed or seen, is given the answer of whoever used it first**, if the request is the
    /// same. Right only for services whose callers are all one party.
    pub fn unscoped(self) -> LayerBuilder<Chosen> {
        LayerBuilder { config: self.config, scope: PhantomData }
    }
}

impl LayerBuilder<Chosen> {
    /// Makes the layer.
    pub fn build(self) -> IdempotencyLayer {
        IdempotencyLayer { config: Arc::new(self.config) }
    }
}

impl<S> LayerBuilder<S> {
    /// A guarded request without a key is refused with 400. Default: it passes by, unprotected.
    pub fn require_key(mut self) -> Self {
        self.config.without_key = WithoutKey::Refused;
        self
    }

    /// A guarded request without a key is its own key: the same method, path, query and body in the same scope is the
    /// same request, for as long as `engine` keeps its answer. Off by default, and for operations alone that nobody
    /// intends twice within that time: two intended requests with the same bytes are made one.
    ///
    /// The engine is one on the same store (or another) whose *retention* is the window, two minutes say.
    pub fn fingerprint(mut self, engine: Engine) -> Self {
        self.config.without_key = WithoutKey::Fingerprint(engine);
        self
    }

    /// Names the operation of a request, as part of what its key belongs to. Default: its route if axum has matched one
    /// (feature `axum`), otherwise its path.
    pub fn operation(mut self, operation: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.config.operation = Some(Box::new(operation));
        self
    }

    /// The methods that are guarded. Default: `POST` and `PATCH`. The others pass by.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config.methods = methods.into_iter().collect();
        self
    }

    /// The longest request body; a longer one is refused with 413. Default: 1 MiB.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.config.max_request_bytes = bytes;
        self
    }

    /// The longest response body that is kept. A longer one is sent to its client, and its duplicates are told that the
    /// request was executed and its answer not kept. Default: 1 MiB.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// The longest `Retry-After` that a client is given. Default: one second, since most runs are over long before
    /// their lease.
    pub fn retry_after_at_most(mut self, at_most: Duration) -> Self {
        self.config.retry_after_at_most = at_most;
        self
    }

    /// Decides, by the head of a handler's response, what is done with it. Default: [`Disposition::of`].
    pub fn decide(
        mut self,
        disposition: impl Fn(&response::Parts) -> Disposition + Send + Sync + 'static,
    ) -> Self {
        self.config.disposition = Box::new(disposition);
        self
    }

    /// Decides whether a stored response may be given to a request whose handler does not run. It sees the request, and
    /// the stored head. Default: it may.
    ///
    /// Who was let in, ran, and lost the key to another run of the same request is given that one's answer without being
    /// asked about.
    pub fn veto_replay(
        mut self,
        veto: impl Fn(&Parts, &http::Response<()>) -> Replay + Send + Sync + 'static,
    ) -> Self {
        self.config.veto = Some(Box::new(veto));
        self
    }

    /// Response headers that are not stored, beside those that never are.
    pub fn never_stored(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.never_stored = names.into_iter().collect();
        self
    }

    /// The header names, statuses and codes that clients see.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.config.dialect = dialect;
        self
    }
}

impl<S> fmt::Debug for LayerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerBuilder").field("config", &self.config).finish()
    }
}

/// The settings.
pub(crate) struct Config {
    pub(crate) engine: Engine,
    pub(crate) without_key: WithoutKey,
    pub(crate) scope: Box<ScopeOf>,
    pub(crate) operation: Option<Box<OperationOf>>,
    pub(crate) methods: Vec<Method>,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_response_bytes: usize,
    pub(crate) retry_after_at_most: Duration,
    pub(crate) disposition: Box<DispositionOf>,
    pub(crate) veto: Option<Box<Veto>>,
    pub(crate) never_stored: Vec<HeaderName>,
    pub(crate) dialect: Dialect,
    pub(crate) unprotected: Unprotected,
}

/// What becomes of a guarded request without a key.
#[derive(Debug)]
pub(crate) enum WithoutKey {
    PassBy,
    Refused,
    Fingerprint(Engine),
}

type OperationOf = dyn Fn(&Parts) -> String + Send + Sync;
type DispositionOf = dyn Fn(&response::Parts) -> Disposition + Send + Sync;
pub(crate) type Veto = dyn Fn(&Parts, &http::Response<()>) -> Replay + Send + Sync;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("engine", &self.engine)
            .field("without_key", &self.without_key)
            .field("methods", &self.methods)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("retry_after_at_most", &self.retry_after_at_most)
            .field("never_stored", &self.never_stored)
            .finish_non_exhaustive()
    }
}
