//! What the layer says itself: replays, refusals and the store's failures.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response};
use idem_core::{Answer, Key, StoreError};

use crate::body::Collected;
use crate::dialect::{Reply, retry_after};
use crate::layer::Config;
use crate::observe;
use crate::scope::ScopeError;
use crate::stored::Stored;

/// One of the layer's own answers.
pub(crate) type Own = Response<Bytes>;

impl Config {
    pub(crate) fn own(&self, reply: &Reply) -> Response<Collected> {
        collected(self.dialect.problem(reply, None))
    }

    pub(crate) fn in_progress(&self, lease_left: Duration) -> Response<Collected> {
        let after = retry_after(lease_left, self.retry_after_at_most);
        collected(self.dialect.problem(&self.dialect.in_progress, Some(after)))
    }

    pub(crate) fn scope_refused(&self, error: &ScopeError) -> Own {
        let title = error.status.canonical_reason().unwrap_or("Refused");
        let reply =
            Reply { status: error.status, code: self.dialect.scope_refused.clone(), title: title.into() };
        self.dialect.problem(&reply, None)
    }

    /// The handler did not run, since the store failed. What will not pass by itself does not ask for a retry.
    pub(crate) fn store_error(&self, key: &Key, error: &StoreError) -> Response<Collected> {
        observe::store_failed(key, error);
        if error.is_transient() {
            let after = retry_after(Duration::ZERO, self.retry_after_at_most);
            return collected(self.dialect.problem(&self.dialect.store_unavailable, Some(after)));
        }
        self.own(&self.dialect.store_failed)
    }

    /// The answer that was accepted for this request, given to somebody whose own run it was not.
    pub(crate) fn accepted(&self, key: &Key, answer: &Answer) -> Response<Collected> {
        let Answer::Value(response) = answer else { return self.own(&self.dialect.response_not_kept) };
        match Stored::decode(response) {
            Ok(stored) => self.replay(stored),
            Err(error) => {
                observe::unreadable(key, error);
                self.own(&self.dialect.store_failed)
            }
        }
    }

    pub(crate) fn replay(&self, stored: Stored) -> Response<Collected> {
        let mut response = stored.into_response();
        response.headers_mut().insert(&self.dialect.replayed_header, HeaderValue::from_static("true"));
        response
    }
}

fn collected(own: Own) -> Response<Collected> {
    own.map(|bytes| Collected { bytes, trailers: None })
}
