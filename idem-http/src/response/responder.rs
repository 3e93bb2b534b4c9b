//! [`Responder`]: makes the layer's own responses. They are replays, refusals, and reports of a failed store.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, Response};
use idem_core::{Answer, Key, StoreError, StoredValue};
use serde::Serialize;

use crate::body::read::Buffered;
use crate::observe;
use crate::request::scope::ScopeError;
use crate::response::stored::StoredResponse;
use crate::response::wire::{ProblemSpec, WireOptions};

/// A response that the layer makes itself.
pub(crate) type LocalResponse = Response<Buffered>;

/// Makes the layer's own responses.
pub(crate) struct Responder {
    pub(crate) wire: WireOptions,
    pub(crate) max_retry_after: Duration,
}

impl Default for Responder {
    fn default() -> Self {
        Self { wire: WireOptions::default(), max_retry_after: Duration::from_secs(1) }
    }
}

impl Responder {
    pub(crate) fn problem(&self, spec: &ProblemSpec) -> LocalResponse {
        self.render(spec, None)
    }

    /// Another run of the request holds the key, for at most `lease_left` if it is not renewed.
    pub(crate) fn in_progress(&self, lease_left: Duration) -> LocalResponse {
        self.render(&self.wire.in_progress, Some(lease_left))
    }

    pub(crate) fn scope_refused(&self, error: &ScopeError) -> LocalResponse {
        let title = error.status.canonical_reason().unwrap_or("Refused");
        let code = self.wire.scope_refused.clone();
        self.problem(&ProblemSpec { status: error.status, code, title: title.into() })
    }

    /// The store failed before the handler ran. Only a transient failure asks for a retry.
    pub(crate) fn store_error(&self, key: &Key, error: &StoreError) -> LocalResponse {
        observe::store_failed(key, error);
        if error.is_transient() {
            return self.render(&self.wire.store_unavailable, Some(Duration::ZERO));
        }
        self.problem(&self.wire.store_failed)
    }

    /// The request's answer, from a run other than this request's own.
    pub(crate) fn accepted(&self, key: &Key, answer: &Answer) -> LocalResponse {
        match answer {
            Answer::Value(value) => {
                self.decode(key, value).map_or_else(|response| *response, |stored| self.replay(stored))
            }
            Answer::NotKept => self.problem(&self.wire.response_not_kept),
        }
    }

    /// Decodes a stored response, or makes the response that reports that this is impossible.
    pub(crate) fn decode(
        &self,
        key: &Key,
        value: &StoredValue,
    ) -> Result<StoredResponse, Box<LocalResponse>> {
        StoredResponse::decode(value).map_err(|error| {
            observe::unreadable(key, &error);
            Box::new(self.problem(&self.wire.store_failed))
        })
    }

    pub(crate) fn replay(&self, stored: StoredResponse) -> LocalResponse {
        let mut response = stored.into_response();
        response.headers_mut().insert(&self.wire.replayed_header, HeaderValue::from_static("true"));
        response
    }

    fn render(&self, spec: &ProblemSpec, lease_left: Option<Duration>) -> LocalResponse {
        let described_by = self.wire.described_by.as_ref();
        let code = &*spec.code;
        // RFC 9457: `about:blank` is the type of a problem without documentation of its own.
        let kind = described_by.map(|uri| Cow::Owned(format!("{uri}#{code}")));
        let problem = Problem {
            kind: kind.unwrap_or(Cow::Borrowed("about:blank")),
            title: &spec.title,
            status: spec.status.as_u16(),
            code,
        };
        // This cannot fail: the problem has neither maps nor numbers that JSON cannot express.
        let body = serde_json::to_vec(&problem).unwrap_or_default();

        let mut response = Response::new(Buffered { bytes: body.into(), trailers: None });
        *response.status_mut() = spec.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(lease_left) = lease_left {
            let seconds = retry_after_seconds(lease_left, self.max_retry_after);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        let link = described_by.map(|uri| format!("<{uri}>; rel=\"describedby\""));
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

/// The rest of another run's lease in whole seconds, rounded up and at most `max`. At least one, because zero would ask
/// for a busy loop.
fn retry_after_seconds(lease_left: Duration, max: Duration) -> u64 {
    let rounded_up = lease_left.as_secs() + u64::from(lease_left.subsec_nanos() > 0);
    rounded_up.min(max.as_secs()).max(1)
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, Uri};

    use super::*;

    #[test]
    fn retry_after_is_rounded_up_at_least_one_and_capped() {
        let of = |millis, max| retry_after_seconds(Duration::from_millis(millis), Duration::from_secs(max));
        assert_eq!([of(0, 30), of(1, 30), of(1000, 30), of(1001, 30), of(60_000, 30)], [1, 1, 1, 2, 30]);
        assert_eq!([of(59_000, 1), of(0, 0)], [1, 1]);
    }

    #[test]
    fn a_problem_has_its_members_and_links_to_its_documentation() {
        let mut responder = Responder::default();
        let spec = ProblemSpec::new(StatusCode::CONFLICT, "a_code", "A \"title\"");
        let plain = responder.problem(&spec);
        assert_eq!(plain.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            plain.body().bytes,
            r#"{"type":"about:blank","title":"A \"title\"","status":409,"code":"a_code"}"#
        );
        assert!(!plain.headers().contains_key(RETRY_AFTER) && !plain.headers().contains_key(LINK));

        responder.wire.described_by = Some(Uri::from_static("https://example.com/idempotency"));
        responder.max_retry_after = Duration::from_secs(3);
        let linked = responder.render(&spec, Some(Duration::from_secs(60)));
        assert_eq!(linked.headers()[RETRY_AFTER], "3");
        assert_eq!(linked.headers()[LINK], "<https://example.com/idempotency>; rel=\"describedby\"");
        assert!(linked.body().bytes.starts_with(br#"{"type":"https://example.com/idempotency#a_code","#));
    }
}
