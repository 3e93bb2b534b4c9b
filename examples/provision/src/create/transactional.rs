//! The effect and its completion in one transaction: after a crash at any instant either both have happened or neither.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use idem_http::extract::{IdempotencyKey, TransactionalStep};
use serde_json::json;
use tokio::time::sleep;

use super::{App, ended, error_of, json as answer_of, on_postgres, on_sqlite};
use crate::ledger::Entry;
use crate::request::{Kind, NewResource};
use crate::service::Team;
use crate::store::Transactions;

/// Creates a resource in the transaction that completes the request.
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
    let Some(transactions) = app.transactional else {
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
    match transactions {
        Transactions::Sqlite(store) => {
            on_sqlite::create(&store, reservation, recorder, entry, simulate).await
        }
        Transactions::Postgres(store) => {
            on_postgres::create(&store, reservation, recorder, entry, simulate).await
        }
    }
}

/// What the client is told when the store failed: nothing has happened, or nobody knows.
pub(super) fn store_failed(error: &dyn std::error::Error) -> Response {
    eprintln!("the store failed: {error}");
    ended(&answer_of(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "the store failed" })))
}
