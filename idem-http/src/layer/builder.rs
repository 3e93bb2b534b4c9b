//! [`IdempotencyLayerBuilder`]: the settings of a layer.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, Method, response};
use idem_core::Engine;

use crate::config::{Config, WithoutKey};
use crate::request::scope::{Scope, ScopeError};
use crate::response::disposition::{Disposition, Replay};
use crate::response::wire::WireOptions;

/// Builds an [`IdempotencyLayer`](crate::IdempotencyLayer).
///
/// `S` is [`NeedsScope`] until [`scope`](Self::scope) or [`unscoped`](Self::unscoped) was called, and [`Scoped`]
/// afterwards. Only a scoped builder can be [built](Self::build).
#[must_use = "a builder does nothing until it is built"]
pub struct IdempotencyLayerBuilder<S> {
    pub(super) config: Config,
    pub(super) scope: PhantomData<S>,
}

/// The state of a builder without a scope.
#[derive(Debug)]
pub enum NeedsScope {}

/// The state of a builder with a scope.
#[derive(Debug)]
pub enum Scoped {}

/// The builder states in which [`IdempotencyLayerBuilder::build`] can be called: only [`Scoped`].
#[diagnostic::on_unimplemented(
    message = "this idempotency layer has no scope",
    label = "call `.scope(..)` or `.unscoped()` before `.build()`",
    note = "the scope says whose requests these are, for example `.scope(|parts| Scope::principal(tenant_of(parts)?))`"
)]
pub trait HasScope {}

impl HasScope for Scoped {}

impl IdempotencyLayerBuilder<NeedsScope> {
    /// Sets the function that says whose request this is. Two scopes share nothing: the same key in two scopes is two
    /// keys.
    pub fn scope(
        self,
        scope: impl Fn(&Parts) -> Result<Scope, ScopeError> + Send + Sync + 'static,
    ) -> IdempotencyLayerBuilder<Scoped> {
        let config = Config { scope: Box::new(scope), ..self.config };
        IdempotencyLayerBuilder { config, scope: PhantomData }
    }

    /// Puts all requests into one scope. **A client that guesses or sees another client's key can get that client's
    /// response**, if it sends the same request. Use it only if all callers are one party.
    pub fn unscoped(self) -> IdempotencyLayerBuilder<Scoped> {
        self.scope(|_| Ok(Scope::shared()))
    }
}

impl<S> IdempotencyLayerBuilder<S> {
    /// Refuses guarded requests without a key with 400. Default: they bypass the layer and run without protection.
    pub fn require_key(mut self) -> Self {
        self.config.without_key = WithoutKey::Refuse;
        self
    }

    /// Deduplicates guarded requests without a key by their content. Off by default.
    ///
    /// The same method, path, query and body in the same scope is the same request, for as long as `engine` keeps its
    /// response. Pass an engine with a short *retention*, for example two minutes, on the same store or another one.
    ///
    /// Use it only for operations that no client repeats on purpose within that time: two intended requests with the
    /// same bytes become one.
    pub fn fingerprint(mut self, engine: Engine) -> Self {
        self.config.without_key = WithoutKey::Fingerprint(engine);
        self
    }

    /// Sets the function that names the operation of a request. A key belongs to one operation. Default: the route that
    /// axum matched (feature `axum`), otherwise the path.
    pub fn operation(mut self, operation: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.config.operation = Some(Box::new(operation));
        self
    }

    /// Sets the methods that are guarded; all others bypass the layer. Default: `POST` and `PATCH`.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.config.methods = methods.into_iter().collect();
        self
    }

    /// Sets the size limit of request bodies, in bytes. A longer body is refused with 413. Default: 1 MiB.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.config.max_request_bytes = bytes;
        self
    }

    /// Sets the size limit of stored response bodies, in bytes. Default: 1 MiB.
    ///
    /// A longer body is sent to its client but not stored. Duplicates get 409: the request was executed, and its
    /// response was not kept.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// Sets the longest `Retry-After` that clients get. Default: one second, because most handlers end long before
    /// their lease.
    pub fn max_retry_after(mut self, max: Duration) -> Self {
        self.config.responder.max_retry_after = max;
        self
    }

    /// Sets the function that decides, by status and headers, what happens to a handler's response. Default:
    /// [`Disposition::default_for`].
    pub fn classify(
        mut self,
        classify: impl Fn(&response::Parts) -> Disposition + Send + Sync + 'static,
    ) -> Self {
        self.config.classify = Box::new(classify);
        self
    }

    /// Sets the function that decides whether a request may get a stored response. It sees the request, and the status
    /// and headers of the stored response. Default: every request with the same key and content in the same scope may.
    ///
    /// The function is not called when a request ran but lost its key to another run: the request then gets the other
    /// run's response.
    pub fn authorize_replay(
        mut self,
        authorize: impl Fn(&Parts, &http::Response<()>) -> Replay + Send + Sync + 'static,
    ) -> Self {
        self.config.authorize_replay = Some(Box::new(authorize));
        self
    }

    /// Excludes further response headers from what is stored. Credentials, cookies, `Date` and headers of the
    /// connection are never stored.
    pub fn exclude_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.config.exclude_headers = names.into_iter().collect();
        self
    }

    /// Sets the header names, statuses and error codes that clients see.
    pub fn wire_options(mut self, options: WireOptions) -> Self {
        self.config.responder.wire = options;
        self
    }
}

impl<S> fmt::Debug for IdempotencyLayerBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayerBuilder").field("engine", &self.config.engine).finish_non_exhaustive()
    }
}
