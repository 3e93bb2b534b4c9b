//! [`Config`]: the settings of a layer, shared by its services and its runs.

use http::request::Parts;
use http::{HeaderName, Method, response};
use idem_core::Engine;

use crate::request::bypass::GUARDED_METHODS;
use crate::request::scope::{Scope, ScopeError};
use crate::response::disposition::{Disposition, Replay};
use crate::response::responder::Responder;
use crate::unprotected::UnprotectedRuns;

/// The settings of a layer.
pub(crate) struct Config {
    pub(crate) engine: Engine,
    pub(crate) without_key: WithoutKey,
    pub(crate) scope: Box<ScopeFn>,
    pub(crate) operation: Option<Box<OperationFn>>,
    pub(crate) methods: Vec<Method>,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_response_bytes: usize,
    pub(crate) classify: Box<ClassifyFn>,
    pub(crate) authorize_replay: Option<Box<AuthorizeReplayFn>>,
    pub(crate) exclude_headers: Vec<HeaderName>,
    pub(crate) responder: Responder,
    pub(crate) unprotected: UnprotectedRuns,
}

/// What happens to a guarded request without a key.
pub(crate) enum WithoutKey {
    Bypass,
    Refuse,
    Fingerprint(Engine),
}

type ScopeFn = dyn Fn(&Parts) -> Result<Scope, ScopeError> + Send + Sync;
type OperationFn = dyn Fn(&Parts) -> String + Send + Sync;
type ClassifyFn = dyn Fn(&response::Parts) -> Disposition + Send + Sync;
type AuthorizeReplayFn = dyn Fn(&Parts, &http::Response<()>) -> Replay + Send + Sync;

impl Config {
    /// The defaults. The scope is a placeholder: a layer cannot be built before it is replaced.
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            without_key: WithoutKey::Bypass,
            scope: Box::new(|_| Ok(Scope::shared())),
            operation: None,
            methods: GUARDED_METHODS.to_vec(),
            max_request_bytes: 1 << 20,
            max_response_bytes: 1 << 20,
            classify: Box::new(Disposition::default_for),
            authorize_replay: None,
            exclude_headers: Vec::new(),
            responder: Responder::default(),
            unprotected: UnprotectedRuns::default(),
        }
    }
}
