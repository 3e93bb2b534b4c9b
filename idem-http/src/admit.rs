//! A guarded request's way in: scope, body, reservation. What it may not do yet is answered here; what it may is handed
//! to [`run`](crate::run).
//!
//! INV-1: nothing is reserved before the whole body is there, so that one that breaks off, or is too large, leaves no
//! trace.
//! INV-2: nobody is answered from a record before the scope is known and the fingerprint has matched.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::EXPECT;
use http::request::Parts;
use http::{Request, Response, Uri};
use http_body::Body;
use idem_core::{Admission, Engine, Fingerprint, Key, StoreError};
use tokio::task::JoinHandle;
use tower_service::Service;

use crate::answer::Own;
use crate::body::{BoxError, Collected, RequestBody, ResponseBody};
use crate::collect::{self, Unread};
use crate::decide::Replay;
use crate::key::{IdempotencyKey, Sent};
use crate::layer::{Config, Veto, WithoutKey};
use crate::observe;
use crate::run::Run;
use crate::scope::{Branch, Hex, hex};
use crate::step::Slot;
use crate::stored::Stored;

/// Answers a guarded request.
pub(crate) async fn guard<S, B, R>(
    config: Arc<Config>,
    service: S,
    parts: Parts,
    body: B,
    sent: Sent,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Error: Into<BoxError>> + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    // A client that waits for "100 Continue" has not sent its body, and must not be asked for what nobody wants.
    let may_drain = !parts.headers.contains_key(EXPECT);
    let named = match name(&config, &parts, sent) {
        Ok(named) => named,
        Err(own) => {
            if may_drain {
                collect::drain(Box::pin(body)).await;
            }
            return Ok(own.map(ResponseBody::full));
        }
    };
    let body = match collect::request_body(body, config.max_request_bytes, may_drain).await {
        Ok(body) => body,
        Err(unread) => return Ok(config.unread(&unread).map(ResponseBody::full)),
    };

    let request = Reserving::of(&config, named, &parts, &body);
    let slot = match request.engine.reserve(&request.key, &request.fingerprint).await {
        Ok(Admission::Granted(reservation)) => Slot::holding(reservation),
        Ok(Admission::Unprotected(attempt)) => Slot::unprotected(attempt, config.unprotected.begin()),
        other => return Ok(config.refused(&request.key, &parts, other).map(ResponseBody::read)),
    };
    // Between the grant and the start nothing is awaited, so that nobody can be cancelled there.
    let task = request.start(&config, slot, service, parts, body);
    // Its panics are caught inside; what remains is a runtime that is shut down.
    task.await.unwrap_or_else(|_| Ok(config.own(&config.dialect.handler_failed).map(ResponseBody::read)))
}

/// What a request is called.
enum Name {
    Key(IdempotencyKey),
    Itself(Engine),
}

/// A name, and whose it is.
struct Named {
    name: Name,
    /// The scope of the lookup key.
    scope: Hex,
}

/// Finds out what a request is called, from its head alone.
fn name(config: &Config, parts: &Parts, sent: Sent) -> Result<Named, Box<Own>> {
    // Whoever has no scope learns nothing else.
    let scope = (config.scope)(parts).map_err(|error| Box::new(config.scope_refused(&error)))?;
    let (name, branch) = match (sent, &config.without_key) {
        (Sent::Key(key), _) => (Name::Key(key), Branch::Key),
        (Sent::Nothing, WithoutKey::Fingerprint(engine)) => {
            (Name::Itself(engine.clone()), Branch::Fingerprint)
        }
        (Sent::Nothing, WithoutKey::PassBy | WithoutKey::Refused) => {
            return Err(Box::new(config.dialect.problem(&config.dialect.missing, None)));
        }
        (Sent::Invalid, _) => return Err(Box::new(config.dialect.problem(&config.dialect.invalid, None))),
    };
    let operation = match &config.operation {
        Some(operation) => Cow::Owned(operation(parts)),
        None => Cow::Borrowed(route(parts).unwrap_or_else(|| uri(parts).path())),
    };
    Ok(Named { name, scope: scope.of_key(&parts.method, &operation, branch) })
}

/// A request that is about to reserve its key.
struct Reserving {
    engine: Engine,
    key: Key,
    fingerprint: Fingerprint,
    sent: Option<IdempotencyKey>,
}

impl Reserving {
    fn of(config: &Config, named: Named, parts: &Parts, body: &Collected) -> Self {
        let uri = uri(parts);
        let query = uri.query().unwrap_or_default();
        let fingerprint = Fingerprint::from_parts([
            parts.method.as_str().as_bytes(),
            uri.path().as_bytes(),
            query.as_bytes(),
            &body.bytes,
        ]);
        let (key, engine, sent) = match named.name {
            Name::Key(key) => (Key::new(named.scope, key.as_str()), config.engine.clone(), Some(key)),
            Name::Itself(engine) => (Key::new(named.scope, hex(fingerprint.as_bytes())), engine, None),
        };
        // The scope is 64 digits; the name is either 64 digits or a key, which was found to have 1 to 255 bytes.
        #[allow(clippy::expect_used, reason = "proved above")]
        let key = key.expect("a scope and a name of 1 to 255 bytes");
        Self { engine, key, fingerprint, sent }
    }

    /// Starts the handler in a task of its own, which the end of this one does not end.
    fn start<S, B, R>(
        self,
        config: &Arc<Config>,
        slot: Slot,
        service: S,
        mut parts: Parts,
        body: Collected,
    ) -> JoinHandle<Result<Response<ResponseBody<R>>, S::Error>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: Body + Send + 'static,
        R: Body<Error: Into<BoxError>> + Send + 'static,
    {
        parts.extensions.insert(slot.attempt().clone());
        parts.extensions.insert(slot.handle(config));
        if let Some(sent) = self.sent {
            parts.extensions.insert(sent);
        }
        let request = Request::from_parts(parts, RequestBody::read(body));
        let run = Run {
            config: Arc::clone(config),
            engine: self.engine,
            key: self.key,
            fingerprint: self.fingerprint,
        };
        run.start(slot, service, request)
    }
}

impl Config {
    fn unread(&self, unread: &Unread) -> Own {
        self.dialect.problem(
            match unread {
                Unread::TooLarge => &self.dialect.body_too_large,
                Unread::Broken => &self.dialect.body_broken,
            },
            None,
        )
    }

    /// What a request is answered whose handler does not run.
    fn refused(
        &self,
        key: &Key,
        parts: &Parts,
        admission: Result<Admission, StoreError>,
    ) -> Response<Collected> {
        let reply = match admission {
            Ok(Admission::Replayed(response)) => match Stored::decode(&response) {
                Ok(stored) => {
                    let is_vetoed = |veto: &Veto| veto(parts, &stored.head()) == Replay::Refuse;
                    if self.veto.as_deref().is_some_and(is_vetoed) {
                        return self.own(&self.dialect.replay_refused);
                    }
                    return self.replay(stored);
                }
                Err(error) => {
                    observe::unreadable(key, error);
                    &self.dialect.store_failed
                }
            },
            Ok(Admission::InFlight { retry_after }) => return self.in_progress(retry_after),
            Ok(Admission::FingerprintMismatch) => &self.dialect.reused,
            Ok(Admission::LeaseExpired { .. }) => &self.dialect.outcome_unknown,
            Ok(Admission::NotKept) => &self.dialect.response_not_kept,
            Err(error) => return self.store_error(key, &error),
            // Those run, and are not asked here.
            Ok(Admission::Granted(_) | Admission::Unprotected(_)) => &self.dialect.handler_failed,
        };
        self.own(reply)
    }
}

/// The URI as the client sent it. Nested axum routers see only their part of it.
fn uri(parts: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(original) = parts.extensions.get::<axum::extract::OriginalUri>() {
        return &original.0;
    }
    &parts.uri
}

/// The route that the router has matched, if there is one and it has run before this layer.
fn route(parts: &Parts) -> Option<&str> {
    #[cfg(feature = "axum")]
    return parts.extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str);
    #[cfg(not(feature = "axum"))]
    {
        let _ = parts;
        None
    }
}
