//! The handler: it waits, has its effect, and ends as it is told.
//!
//! Once as most services are (`plain`), and once with its effect in the transaction that completes the request
//! (`transactional`), which each database has in its own way (`on_sqlite`, `on_postgres`).

mod on_postgres;
mod on_sqlite;
mod plain;
mod transactional;

use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

pub(crate) use self::plain::create;
pub(crate) use self::transactional::create_in_transaction;
use crate::ledger::{Entry, Ledger};
use crate::store::Transactions;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) may_simulate: bool,
    /// The store, if the handlers complete in its transactions.
    pub(crate) transactional: Option<Transactions>,
}

fn created(id: i64, entry: &Entry) -> http::Response<Bytes> {
    json(
        StatusCode::CREATED,
        &json!({
            "id": id,
            "kind": entry.kind.name(),
            "team": entry.team,
            "name": entry.name,
            "attempt": entry.attempt,
            "fence": entry.fence,
        }),
    )
}

fn rejected(id: i64) -> http::Response<Bytes> {
    json(StatusCode::BAD_REQUEST, &json!({ "error": "rejected", "id": id }))
}

fn conflict() -> http::Response<Bytes> {
    json(StatusCode::CONFLICT, &json!({ "error": "conflict" }))
}

fn error_of(why: &str) -> http::Response<Bytes> {
    json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": why }))
}

fn ended(answer: &http::Response<Bytes>) -> Response {
    answer.clone().map(Into::into)
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, body: &Value) -> http::Response<Bytes> {
    let mut response = http::Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
