//! [`Dialect`]: every header name, status and code that clients see, in one place.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use serde::Serialize;

/// The header names, statuses and codes that clients see. The defaults are those of
/// `draft-ietf-httpapi-idempotency-key-header-07` where it has any.
///
/// ```
/// use http::{HeaderName, StatusCode};
/// use idem_http::Dialect;
///
/// let mut dialect = Dialect::default();
/// dialect.key_header = HeaderName::from_static("x-request-token");
/// dialect.reused.status = StatusCode::CONFLICT;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dialect {
    /// The request header with the key. Default: `Idempotency-Key`.
    pub key_header: HeaderName,
    /// The response header that marks a replay; its value is `true`. Default: `Idempotent-Replayed`.
    pub replayed_header: HeaderName,
    /// Your documentation of idempotency: the problems link to it. Default: none.
    pub described_by: Option<Uri>,
    /// Another request with the same key is running. Default: 409 `idempotency_key_in_progress`.
    pub in_progress: Reply,
    /// The key was used for another payload. Default: 422 `idempotency_key_reused`.
    pub reused: Reply,
    /// The key is missing and required. Default: 400 `idempotency_key_missing`.
    pub missing: Reply,
    /// The key's header is not a key. Default: 400 `idempotency_key_invalid`.
    pub invalid: Reply,
    /// Nobody knows what an earlier attempt did, and running again is refused. Default: 409
    /// `idempotency_outcome_unknown`.
    pub outcome_unknown: Reply,
    /// The request was executed, and its answer was not kept. Default: 409 `idempotency_response_not_kept`.
    pub response_not_kept: Reply,
    /// The store cannot be asked; the handler did not run. Default: 503 `idempotency_store_unavailable`.
    pub store_unavailable: Reply,
    /// The store or its record cannot be read; the handler did not run. Default: 500 `idempotency_store_failed`.
    pub store_failed: Reply,
    /// [`veto_replay`](crate::LayerBuilder::veto_replay) refused. Default: 403 `idempotency_replay_refused`.
    pub replay_refused: Reply,
    /// The request's body is over the limit. Default: 413 `request_body_too_large`.
    pub body_too_large: Reply,
    /// The request's body broke off. Default: 400 `request_body_broken`.
    pub body_broken: Reply,
    /// The handler panicked, or its response broke off. Default: 500 `handler_failed`.
    pub handler_failed: Reply,
    /// The handler took the transactional step, did not commit it, and claims success. Default: 500
    /// `idempotency_step_not_committed`.
    pub step_not_committed: Reply,
    /// What the `code` of a refusal by the [scope](crate::ScopeError) is; its status is the error's. Default:
    /// `idempotency_scope_refused`.
    pub scope_refused: Cow<'static, str>,
}

/// One of the answers that the layer itself gives: an RFC 9457 problem with a further member `code`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What programs go by. Never changes between releases unless you change it.
    pub code: Cow<'static, str>,
    /// What people read, the same for all problems of this code.
    pub title: Cow<'static, str>,
}

impl Reply {
    /// An answer of these.
    pub const fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self { status, code: Cow::Borrowed(code), title: Cow::Borrowed(title) }
    }
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            key_header: HeaderName::from_static("idempotency-key"),
            replayed_header: HeaderName::from_static("idempotent-replayed"),
            described_by: None,
            in_progress: Reply::new(
                StatusCode::CONFLICT,
                "idempotency_key_in_progress",
                "A request with this key is still running. Send it again after the time in Retry-After.",
            ),
            reused: Reply::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "This key was used for another request. Use a new key for a new request.",
            ),
            missing: Reply::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_missing",
                "This operation needs an idempotency key.",
            ),
            invalid: Reply::new(
                StatusCode::BAD_REQUEST,
                "idempotency_key_invalid",
                "The idempotency key has to be one header of 1 to 255 printable ASCII characters.",
            ),
            outcome_unknown: Reply::new(
                StatusCode::CONFLICT,
                "idempotency_outcome_unknown",
                "An earlier attempt at this request ended without a known outcome. Ask the operator of this service.",
            ),
            response_not_kept: Reply::new(
                StatusCode::CONFLICT,
                "idempotency_response_not_kept",
                "This request was executed, but its answer was not kept.",
            ),
            store_unavailable: Reply::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "idempotency_store_unavailable",
                "The request was not executed. Send it again later.",
            ),
            store_failed: Reply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "idempotency_store_failed",
                "The record of this request cannot be read. The request was not executed now.",
            ),
            replay_refused: Reply::new(
                StatusCode::FORBIDDEN,
                "idempotency_replay_refused",
                "The stored answer of this request may not be given to you.",
            ),
            body_too_large: Reply::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_body_too_large",
                "The body of the request is too large. The request was not executed.",
            ),
            body_broken: Reply::new(
                StatusCode::BAD_REQUEST,
                "request_body_broken",
                "The body of the request could not be read. The request was not executed.",
            ),
            handler_failed: Reply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "handler_failed",
                "The request failed. It may be sent again.",
            ),
            step_not_committed: Reply::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "idempotency_step_not_committed",
                "The request was not committed. It may be sent again.",
            ),
            scope_refused: Cow::Borrowed("idempotency_scope_refused"),
        }
    }
}

impl Dialect {
    /// The layer's own answer.
    pub(crate) fn problem(&self, reply: &Reply, retry_after: Option<Duration>) -> Response<Bytes> {
        let code = &*reply.code;
        // RFC 9457: a problem type without documentation of its own is `about:blank`.
        let kind = self.described_by.as_ref().map(|uri| Cow::Owned(format!("{uri}#{code}")));
        let problem = Problem {
            kind: kind.unwrap_or(Cow::Borrowed("about:blank")),
            title: &reply.title,
            status: reply.status.as_u16(),
            code,
        };
        // It has neither maps nor numbers that JSON cannot write.
        let body = serde_json::to_vec(&problem).unwrap_or_default();

        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = reply.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        let link = self.described_by.as_ref().map(|uri| format!("<{uri}>; rel=\"describedby\""));
        if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            headers.insert(LINK, link);
        }
        response
    }
}

/// The members of a problem document, in their order.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: Cow<'a, str>,
    title: &'a str,
    status: u16,
    code: &'a str,
}

/// The rest of another's lease in whole seconds, rounded up: at least one, since zero would ask for a busy loop, and at
/// most `cap`, since most runs are over long before their lease.
pub(crate) fn retry_after(lease_left: Duration, cap: Duration) -> Duration {
    let rounded = lease_left.as_secs() + u64::from(lease_left.subsec_nanos() > 0);
    Duration::from_secs(rounded.min(cap.as_secs()).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_at_least_one_and_capped() {
        let of = |millis, cap| retry_after(Duration::from_millis(millis), Duration::from_secs(cap)).as_secs();
        assert_eq!([of(0, 30), of(1, 30), of(1000, 30), of(1001, 30), of(60_000, 30)], [1, 1, 1, 2, 30]);
        assert_eq!([of(59_000, 1), of(0, 0)], [1, 1]);
    }

    #[test]
    fn a_problem_has_its_members_and_links_to_what_describes_it() {
        let mut dialect = Dialect::default();
        let reply = Reply::new(StatusCode::CONFLICT, "a_code", "A \"title\"");
        let plain = dialect.problem(&reply, None);
        assert_eq!(plain.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            plain.body(),
            r#"{"type":"about:blank","title":"A \"title\"","status":409,"code":"a_code"}"#
        );
        assert!(!plain.headers().contains_key(RETRY_AFTER) && !plain.headers().contains_key(LINK));

        dialect.described_by = Some(Uri::from_static("https://example.com/idempotency"));
        let linked = dialect.problem(&reply, Some(Duration::from_secs(3)));
        assert_eq!(linked.headers()[RETRY_AFTER], "3");
        assert_eq!(linked.headers()[LINK], "<https://example.com/idempotency>; rel=\"describedby\"");
        assert!(linked.body().starts_with(br#"{"type":"https://example.com/idempotency#a_code","#));
    }
}
