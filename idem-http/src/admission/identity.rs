//! [`Identity`]: the key and the fingerprint of a request.

use std::borrow::Cow;

use http::Uri;
use http::request::Parts;
use idem_core::{Engine, Fingerprint, Key};

use crate::body::read::Buffered;
use crate::config::{Config, WithoutKey};
use crate::request::key::{IdempotencyKey, KeyHeader};
use crate::request::scope::{Branch, HexDigest, hex};
use crate::response::responder::LocalResponse;

/// What the head of a request says about its identity.
pub(super) struct Name {
    engine: Engine,
    /// The scope of the lookup key.
    scope: HexDigest,
    /// The key that the client sent. Without one, the content identifies the request.
    client_key: Option<IdempotencyKey>,
}

/// What identifies a request in the store, and the engine that reserves it.
pub(super) struct Identity {
    pub(super) engine: Engine,
    pub(super) key: Key,
    pub(super) fingerprint: Fingerprint,
    pub(super) client_key: Option<IdempotencyKey>,
}

impl Name {
    /// Names a request, or refuses it. A request without a scope learns nothing else.
    pub(super) fn of(config: &Config, parts: &Parts, header: KeyHeader) -> Result<Self, Box<LocalResponse>> {
        let responder = &config.responder;
        let scope = (config.scope)(parts).map_err(|error| Box::new(responder.scope_refused(&error)))?;
        let (engine, client_key, branch) = match (header, &config.without_key) {
            (KeyHeader::Valid(key), _) => (&config.engine, Some(key), Branch::Key),
            (KeyHeader::Missing, WithoutKey::Fingerprint(engine)) => (engine, None, Branch::Fingerprint),
            (KeyHeader::Missing, WithoutKey::Bypass | WithoutKey::Refuse) => {
                return Err(Box::new(responder.problem(&responder.wire.missing)));
            }
            (KeyHeader::Invalid, _) => return Err(Box::new(responder.problem(&responder.wire.invalid))),
        };
        let operation = match &config.operation {
            Some(operation) => Cow::Owned(operation(parts)),
            None => Cow::Borrowed(matched_route(parts).unwrap_or_else(|| original_uri(parts).path())),
        };
        let scope = scope.of_key(&parts.method, &operation, branch);
        Ok(Self { engine: engine.clone(), scope, client_key })
    }

    /// Adds the content of the request.
    pub(super) fn identify(self, parts: &Parts, body: &Buffered) -> Identity {
        let Self { engine, scope, client_key } = self;
        let uri = original_uri(parts);
        let fingerprint = Fingerprint::from_parts([
            parts.method.as_str().as_bytes(),
            uri.path().as_bytes(),
            uri.query().unwrap_or_default().as_bytes(),
            &body.bytes,
        ]);
        let key = match &client_key {
            Some(client_key) => Key::new(scope, client_key.as_str()),
            None => Key::new(scope, hex(fingerprint.as_bytes())),
        };
        // The scope has 64 digits. The name has 64 digits, or is a client's key, which has 1 to 255 bytes.
        #[allow(clippy::expect_used, reason = "proved above")]
        let key = key.expect("a scope and a name of 1 to 255 bytes");
        Identity { engine, key, fingerprint, client_key }
    }
}

/// The URI that the client sent. Nested axum routers see only a part of it.
fn original_uri(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return &original.0;
    }
    &parts.uri
}

/// The route that axum has matched, if it ran before this layer.
#[cfg(feature = "axum")]
fn matched_route(parts: &Parts) -> Option<&str> {
    parts.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn matched_route(_: &Parts) -> Option<&str> {
    None
}
