//! The handler's responses.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;

use crate::ledger::Entry;
use crate::response::json;

pub(super) fn created(id: i64, entry: &Entry) -> http::Response<Bytes> {
    json(
        StatusCode::CREATED,
        &serde_json::json!({
            "id": id,
            "kind": entry.kind.name(),
            "team": entry.team,
            "name": entry.name,
            "attempt": entry.attempt,
            "fence": entry.fence,
        }),
    )
}

pub(super) fn rejected(id: i64) -> http::Response<Bytes> {
    json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": "rejected", "id": id }))
}

pub(super) fn conflict() -> http::Response<Bytes> {
    json(StatusCode::CONFLICT, &serde_json::json!({ "error": "conflict" }))
}

pub(super) fn error_of(why: &str) -> http::Response<Bytes> {
    json(StatusCode::INTERNAL_SERVER_ERROR, &serde_json::json!({ "error": why }))
}

pub(super) fn ended(answer: &http::Response<Bytes>) -> Response {
    answer.clone().map(Into::into)
}

/// The store failed: nothing has happened, or nobody knows.
pub(super) fn store_failed(error: &dyn std::error::Error) -> Response {
    eprintln!("the store failed: {error}");
    ended(&json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({ "error": "the store failed" })))
}
