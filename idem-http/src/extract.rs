//! Extractors for axum (feature `axum`): [`Attempt`], [`IdempotencyKey`] and [`TransactionalStep`].
//!
//! ```
//! use axum::Router;
//! use axum::routing::post;
//! use idem_http::extract::{Attempt, IdempotencyKey};
//!
//! async fn pay(attempt: Attempt, key: Option<IdempotencyKey>) -> String {
//!     // Hand the fence to what is changed, and the downstream key to services that have idempotency of their own.
//!     format!("attempt {} under fence {}: {}", attempt.number, attempt.fence, attempt.downstream_key())
//! }
//!
//! let router: Router = Router::new().route("/payments", post(pay));
//! ```

use std::convert::Infallible;
use std::ops::Deref;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

pub use crate::key::IdempotencyKey;
use crate::step::NoStep;
pub use crate::step::TransactionalStep;

/// The attempt that a handler runs as: [`idem_core::Attempt`].
///
/// A request that passes the layer by has none: it is answered with 500, since the route was meant to be guarded. Take
/// an `Option` where both are meant.
#[derive(Clone, Debug)]
pub struct Attempt(pub idem_core::Attempt);

impl Deref for Attempt {
    type Target = idem_core::Attempt;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Attempt {
    type Rejection = NotGuarded;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotGuarded> {
        parts.extensions.get().cloned().map(Self).ok_or(NotGuarded(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Attempt {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned().map(Self))
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = NotGuarded;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotGuarded> {
        parts.extensions.get().cloned().ok_or(NotGuarded(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for TransactionalStep {
    type Rejection = NoStep;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoStep> {
        Self::take(&parts.extensions)
    }
}

/// The request has no key, or did not come through the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is not guarded: the idempotency layer is missing, or the request passed it by")]
pub struct NotGuarded(());

impl IntoResponse for NotGuarded {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Without a store there is no transaction: 503. The others are mistakes of the service: 500.
impl IntoResponse for NoStep {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unprotected => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotGuarded | Self::Taken => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
}
