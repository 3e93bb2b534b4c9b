//! The effect and its completion in one transaction: after a crash at any instant either both have happened or neither.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use idem_http::extract::{IdempotencyKey, TransactionalStep};
use tokio::time::sleep;

use super::response::{ended, error_of};
use super::{on_postgres, on_sqlite};
use crate::app::App;
use crate::ledger::Entry;
use crate::request::{Kind, NewResource};
use crate::store::Transactions;
use crate::team::Team;

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
    let (reservation, encoder) = step.into_parts();
    let Some(transactions) = app.transactional else {
        return ended(&error_of("the service is not transactional"));
    };
    let new = match NewResource::parse(&body, app.may_simulate) {
        Ok(new) => new,
        Err(invalid) => {
            // An answer without an effect needs no transaction.
            let _ = reservation.complete(encoder.encode(invalid.response())).await;
            return invalid.into_response();
        }
    };
    let simulate = new.simulate();
    sleep(simulate.delay()).await;
    let entry = Entry::of(kind, &team.0, &new, key.as_ref(), &attempt);
    match transactions {
        Transactions::Sqlite(store) => on_sqlite::create(&store, reservation, encoder, entry, simulate).await,
        Transactions::Postgres(store) => {
            on_postgres::create(&store, reservation, encoder, entry, simulate).await
        }
    }
}
