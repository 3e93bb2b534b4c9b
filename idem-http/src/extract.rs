//! Extractors for axum (feature `axum`): [`Attempt`], [`IdempotencyKey`] and [`TransactionalStep`].
//!
//! ```
//! use axum::Router;
//! use axum::routing::post;
//! use idem_http::extract::{Attempt, IdempotencyKey};
//!
//! async fn pay(attempt: Attempt, key: Option<IdempotencyKey>) -> String {
//!     // Pass the fence to the system that you change, and the downstream key to services that have keys of their own.
//!     format!("attempt {} with fence {}: {}", attempt.number, attempt.fence, attempt.downstream_key())
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

pub use crate::request::key::IdempotencyKey;
pub use crate::step::{TransactionalStep, TransactionalStepRejection};

/// The attempt that the handler runs as: an [`idem_core::Attempt`].
///
/// A request that bypassed the layer has none and gets a 500, because its route was meant to be guarded. Extract an
/// `Option<Attempt>` if both kinds of request are allowed.
#[derive(Clone, Debug)]
pub struct Attempt(pub idem_core::Attempt);

impl Deref for Attempt {
    type Target = idem_core::Attempt;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Attempt {
    type Rejection = NotGuardedRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotGuardedRejection> {
        parts.extensions.get().cloned().map(Self).ok_or(NotGuardedRejection(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Attempt {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned().map(Self))
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = NotGuardedRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotGuardedRejection> {
        parts.extensions.get().cloned().ok_or(NotGuardedRejection(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for TransactionalStep {
    type Rejection = TransactionalStepRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, TransactionalStepRejection> {
        Self::take(&parts.extensions)
    }
}

/// The request did not pass through the layer, or bypassed it: for example it has no key. A mistake of the service: 500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is not guarded: the idempotency layer is missing, or the request bypassed it")]
pub struct NotGuardedRejection(());

impl IntoResponse for NotGuardedRejection {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}

/// Without a store there is no transaction: 503. The other rejections are mistakes of the service: 500.
impl IntoResponse for TransactionalStepRejection {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unprotected => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotGuarded | Self::AlreadyTaken => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.to_string()).into_response()
    }
}
