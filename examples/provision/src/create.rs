//! The handler: it waits, has its effect, and ends as it is told. Once as most services are, and once with its effect in
//! the transaction that completes the request.

use std::thread;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use idem_http::extract::{Attempt, IdempotencyKey, TransactionalStep};
use idem_sqlite::{SqliteStore, Transacted};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::ledger::{Entry, Ledger};
use crate::request::{Kind, NewResource, Outcome};
use crate::service::Team;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) may_simulate: bool,
    /// The store, if the handlers complete in its transaction.
    pub(crate) transactional: Option<SqliteStore>,
}

/// Creates a resource. A crash between the row and the answer is visible to the next attempt, in `attempt`.
pub(crate) async fn create(
    kind: Kind,
    State(app): State<App>,
    Extension(team): Extension<Team>,
    attempt: Attempt,
    key: Option<IdempotencyKey>,
    body: Bytes,
) -> Response {
    let new = match NewResource::parse(&body, app.may_simulate) {
        Ok(new) => new,
        Err(invalid) => return invalid.into_response(),
    };
    let simulate = new.simulate();
    sleep(simulate.delay()).await;
    let appended = app.ledger.append(Entry::of(kind, &team.0, &new, key.as_ref(), &attempt)).await;
    let (id, entry) = match appended {
        Ok(appended) => appended,
        Err(error) => {
            eprintln!("the ledger failed: {error}");
            return ended(&error_of("the ledger failed"));
        }
    };
    sleep(simulate.hold()).await;
    match simulate.outcome {
        Outcome::Ok => ended(&created(id, &entry)),
        Outcome::Reject => ended(&rejected(id)),
        Outcome::Conflict => ended(&conflict()),
        Outcome::Error => ended(&error_of("told to fail")),
        Outcome::Panic => panic!("told to panic"),
        Outcome::Abort => std::process::abort(),
    }
}

/// Creates a resource in the transaction that completes the request: after a crash at any instant either both have
/// happened or neither.
pub(crate) async fn create_in_transaction(
    kind: Kind,
    State(app): State<App>,
    Extension(team): Extension<Team>,
    key: Option<IdempotencyKey>,
    step: TransactionalStep,
    body: Bytes,
) -> Response {
    let attempt = step.attempt().clone();
    let (reservation, recorder) = step.into_parts();
    let Some(store) = app.transactional else {
        return ended(&error_of("the service is not transactional"));
    };
    let new = match NewResource::parse(&body, app.may_simulate) {
        Ok(new) => new,
        Err(invalid) => {
            // An answer without an effect needs no transaction.
            let _ = reservation.complete(recorder.record(invalid.response())).await;
            return invalid.into_response();
        }
    };
    let simulate = new.simulate();
    sleep(simulate.delay()).await;
    let entry = Entry::of(kind, &team.0, &new, key.as_ref(), &attempt);
    // What is inside runs on the writing thread, in the open transaction.
    let transacted = store.complete_reservation(reservation, move |connection| {
        let id = entry.append(connection).map_err(|error| {
            eprintln!("the ledger failed: {error}");
            Box::new(error_of("the ledger failed"))
        })?;
        thread::sleep(simulate.hold());
        let answer = match simulate.outcome {
            Outcome::Ok => created(id, &entry),
            Outcome::Reject => rejected(id),
            // Both roll the row back.
            Outcome::Conflict => return Err(Box::new(conflict())),
            Outcome::Error => return Err(Box::new(error_of("told to fail"))),
            Outcome::Panic => panic!("told to panic"),
            Outcome::Abort => std::process::abort(),
        };
        Ok((answer.clone(), recorder.record(answer)))
    });
    match transacted.await {
        // The layer answers with what was committed. This is for when the store cannot be asked about it any more.
        Ok(Transacted::Completed(answer)) => ended(&answer),
        Ok(Transacted::AlreadyCompleted) => StatusCode::OK.into_response(),
        Ok(Transacted::RolledBack(answer)) => ended(&answer),
        Ok(Transacted::Lost) => ended(&conflict()),
        Err(error) => {
            eprintln!("the store failed: {error}");
            ended(&json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "the store failed" })))
        }
    }
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
