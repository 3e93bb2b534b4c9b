//! Admits guarded requests: scope, body, reservation. A request that may not run gets its response here; the others go
//! on to [`run`](crate::run).
//!
//! INV-1: nothing is reserved before the whole body was read, so that a body that breaks off or is too large leaves no
//! trace.
//! INV-2: no response comes from a record before the scope is known and the fingerprint matches.

mod identity;

use std::sync::Arc;

use http::header::EXPECT;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use idem_core::{Admission, Key, StoreError};
use tower_service::Service;

use self::identity::Name;
use crate::body::read::{self, BodyError};
use crate::body::{BoxError, RequestBody, ResponseBody};
use crate::config::Config;
use crate::request::key::KeyHeader;
use crate::response::disposition::Replay;
use crate::response::responder::LocalResponse;
use crate::run;
use crate::step::slot::Slot;

/// Responds to a guarded request.
pub(crate) async fn admit<S, B, R>(
    config: Arc<Config>,
    service: S,
    mut parts: Parts,
    body: B,
    header: KeyHeader,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Error: Into<BoxError>> + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    // A client that waits for "100 Continue" has not sent its body yet, and must not be asked to send it in vain.
    let may_drain = !parts.headers.contains_key(EXPECT);
    let name = match Name::of(&config, &parts, header) {
        Ok(name) => name,
        Err(response) => {
            if may_drain {
                read::drain(Box::pin(body)).await;
            }
            return Ok(response.map(ResponseBody::buffered));
        }
    };
    let body = match read::read_request(body, config.max_request_bytes, may_drain).await {
        Ok(body) => body,
        Err(error) => {
            let problem = match error {
                BodyError::TooLarge => &config.responder.wire.body_too_large,
                BodyError::Broken => &config.responder.wire.body_broken,
            };
            return Ok(config.responder.problem(problem).map(ResponseBody::buffered));
        }
    };

    let identity = name.identify(&parts, &body);
    let slot = match identity.engine.reserve(&identity.key, &identity.fingerprint).await {
        Ok(Admission::Granted(reservation)) => Slot::reserved(reservation),
        Ok(Admission::Unprotected(attempt)) => Slot::unprotected(attempt, config.unprotected.begin()),
        other => {
            let response = config.not_admitted(&identity.key, &parts, other);
            return Ok(response.map(ResponseBody::buffered));
        }
    };
    // Nothing is awaited between the grant and the start, so this future cannot be cancelled in between.
    if let Some(client_key) = identity.client_key {
        parts.extensions.insert(client_key);
    }
    let request = Request::from_parts(parts, RequestBody::buffered(body));
    let task = run::start(Arc::clone(&config), identity.key, slot, service, request);
    // The task catches panics, so this error means that the runtime is shutting down.
    task.await.unwrap_or_else(|_| {
        let responder = &config.responder;
        Ok(responder.problem(&responder.wire.handler_failed).map(ResponseBody::buffered))
    })
}

impl Config {
    /// The response to a request whose handler does not run.
    fn not_admitted(
        &self,
        key: &Key,
        parts: &Parts,
        admission: Result<Admission, StoreError>,
    ) -> LocalResponse {
        let responder = &self.responder;
        let wire = &responder.wire;
        responder.problem(match admission {
            Ok(Admission::Replayed(value)) => {
                return responder.decode(key, &value).map_or_else(
                    |response| *response,
                    |stored| match &self.authorize_replay {
                        Some(authorize) if authorize(parts, &stored.head()) == Replay::Refuse => {
                            responder.problem(&wire.replay_refused)
                        }
                        _ => responder.replay(stored),
                    },
                );
            }
            Ok(Admission::InFlight { retry_after }) => return responder.in_progress(retry_after),
            Ok(Admission::FingerprintMismatch) => &wire.reused,
            Ok(Admission::LeaseExpired { .. }) => &wire.outcome_unknown,
            Ok(Admission::NotKept) => &wire.response_not_kept,
            Err(error) => return responder.store_error(key, &error),
            // Not reached: these requests run.
            Ok(Admission::Granted(_) | Admission::Unprotected(_)) => &wire.handler_failed,
        })
    }
}
