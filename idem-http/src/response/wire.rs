//! [`WireOptions`]: every header name, status and error code that clients see, in one place.

use std::borrow::Cow;

use http::{HeaderName, StatusCode, Uri};

/// The header names, statuses and error codes that clients see.
///
/// The defaults follow `draft-ietf-httpapi-idempotency-key-header-07` where it defines any.
///
/// ```
/// use http::{HeaderName, StatusCode};
/// use idem_http::WireOptions;
///
/// let mut options = WireOptions::default();
/// options.key_header = HeaderName::from_static("x-request-token");
/// options.reused.status = StatusCode::CONFLICT;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WireOptions {
    /// The request header that holds the key. Default: `Idempotency-Key`.
    pub key_header: HeaderName,
    /// The response header that marks a replay, with the value `true`. Default: `Idempotent-Replayed`.
    pub replayed_header: HeaderName,
    /// The address of your documentation about idempotency. If it is set, problems link to it. Default: none.
    pub described_by: Option<Uri>,
    /// Another request with the same key is running. Default: 409 `idempotency_key_in_progress`.
    pub in_progress: ProblemSpec,
    /// The key was used for a different request. Default: 422 `idempotency_key_reused`.
    pub reused: ProblemSpec,
    /// The key is required and missing. Default: 400 `idempotency_key_missing`.
    pub missing: ProblemSpec,
    /// The key header does not hold a valid key. Default: 400 `idempotency_key_invalid`.
    pub invalid: ProblemSpec,
    /// The outcome of an earlier attempt is unknown, and the engine does not allow another one. Default: 409
    /// `idempotency_outcome_unknown`.
    pub outcome_unknown: ProblemSpec,
    /// The request was executed, and its response was not kept. Default: 409 `idempotency_response_not_kept`.
    pub response_not_kept: ProblemSpec,
    /// The store is unavailable; the handler did not run. Default: 503 `idempotency_store_unavailable`.
    pub store_unavailable: ProblemSpec,
    /// The store failed or its record cannot be read; the handler did not run. Default: 500
    /// `idempotency_store_failed`.
    pub store_failed: ProblemSpec,
    /// [`authorize_replay`](crate::IdempotencyLayerBuilder::authorize_replay) refused. Default: 403
    /// `idempotency_replay_refused`.
    pub replay_refused: ProblemSpec,
    /// The request body is larger than the limit. Default: 413 `request_body_too_large`.
    pub body_too_large: ProblemSpec,
    /// The request body broke off. Default: 400 `request_body_broken`.
    pub body_broken: ProblemSpec,
    /// The handler panicked, or its response broke off. Default: 500 `handler_failed`.
    pub handler_failed: ProblemSpec,
    /// The handler took the transactional step, did not commit it, and returned a success. Default: 500
    /// `idempotency_step_not_committed`.
    pub step_not_committed: ProblemSpec,
    /// The `code` of a refusal by the [scope](crate::ScopeError); the error has the status. Default:
    /// `idempotency_scope_refused`.
    pub scope_refused: Cow<'static, str>,
}

/// One of the layer's own responses: an RFC 9457 problem with the extra member `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProblemSpec {
    /// The status.
    pub status: StatusCode,
    /// The member `code`, for programs. Releases do not change it.
    pub code: Cow<'static, str>,
    /// The member `title`, for people. It is the same for all problems with this code.
    pub title: Cow<'static, str>,
}

impl ProblemSpec {
    /// A problem with this status, code and title.
    pub const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code: Cow::Borrowed(code), title: Cow::Borrowed(title) }
    }
}

impl Default for WireOptions {
    fn default() -> Self {
        Self {
            key_header: HeaderName::from_static("idempotency-key"),
            replayed_header: HeaderName::from_static("idempotent-replayed"),
            described_by: None,
            in_progress: ProblemSpec::new(
                StatusCode::CONFLICT,
                "idempotency_key_in_progress",
                "A request with this key is still running. Send it again after the time in Retry-After.",
            ),
            reused: ProblemSpec::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "This key was used for another request. Use a new key for a new request.",
            ),
            missing: ProblemSpec::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_missing",
                "This operation needs an idempotency key.",
            ),
            invalid: ProblemSpec::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_invalid",
                "The idempotency key has to be one header of 1 to 255 printable ASCII characters.",
            ),
            outcome_unknown: ProblemSpec::new(
                StatusCode::CONFLICT,
                "idempotency_outcome_unknown",
                "An earlier attempt at this request ended without a known outcome. Ask the operator of this service.",
            ),
            response_not_kept: ProblemSpec::new(
                StatusCode::CONFLICT,
                "idempotency_response_not_kept",
                "This request was executed, but its response was not kept.",
            ),
            store_unavailable: ProblemSpec::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "idempotency_store_unavailable",
                "The request was not executed. Send it again later.",
            ),
            store_failed: ProblemSpec::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "idempotency_store_failed",
                "The record of this request cannot be read. The request was not executed now.",
            ),
            replay_refused: ProblemSpec::new(
                StatusCode::FORBIDDEN,
                "idempotency_replay_refused",
                "You may not get the stored response of this request.",
            ),
            body_too_large: ProblemSpec::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_body_too_large",
                "The body of the request is too large. The request was not executed.",
            ),
            body_broken: ProblemSpec::new(
                StatusCode::BAD_REQUEST,
                "request_body_broken",
                "The body of the request could not be read. The request was not executed.",
            ),
            handler_failed: ProblemSpec::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "handler_failed",
                "The request failed. You may send it again.",
            ),
            step_not_committed: ProblemSpec::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "idempotency_step_not_committed",
                "The request was not committed. You may send it again.",
            ),
            scope_refused: Cow::Borrowed("idempotency_scope_refused"),
        }
    }
}
