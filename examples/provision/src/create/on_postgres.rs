//! Statements on the connection of an open transaction.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use idem_core::Reservation;
use idem_http::ResponseEncoder;
use idem_postgres::{PostgresStore, ReservationExt, TransactionError};
use tokio::time::sleep;

use super::response::{conflict, created, ended, error_of, rejected, store_failed};
use crate::ledger::Entry;
use crate::request::{Outcome, Simulate};

pub(super) async fn create(
    store: &PostgresStore,
    reservation: Reservation,
    encoder: ResponseEncoder,
    entry: Entry,
    simulate: Simulate,
) -> Response {
    let transaction = match reservation.begin_transaction(store).await {
        Ok(transaction) => transaction,
        Err(error) => return not_committed(&error),
    };
    // From here on, what is dropped is rolled back.
    let id = match entry.append_to(&transaction).await {
        Ok(id) => id,
        Err(error) => {
            eprintln!("the ledger failed: {error}");
            return ended(&error_of("the ledger failed"));
        }
    };
    sleep(simulate.hold()).await;
    let rolled_back = match simulate.outcome {
        Outcome::Ok | Outcome::Reject => None,
        Outcome::Conflict => Some(conflict()),
        Outcome::Error => Some(error_of("the request asks for an error")),
        Outcome::Panic => panic!("the request asks for a panic"),
        Outcome::Abort => std::process::abort(),
    };
    if let Some(answer) = rolled_back {
        // Nothing has happened, so that the next one is the first attempt again.
        let _ = transaction.rollback().await.release().await;
        return ended(&answer);
    }
    let answer = match simulate.outcome {
        Outcome::Reject => rejected(id),
        _ => created(id, &entry),
    };
    match transaction.complete(encoder.encode(answer.clone())).await {
        // The layer answers with what was committed. This is for when the store cannot be asked about it any more.
        Ok(()) => ended(&answer),
        Err(error) => not_committed(&error),
    }
}

fn not_committed(error: &TransactionError) -> Response {
    match error {
        TransactionError::Lost => ended(&conflict()),
        TransactionError::AlreadyCompleted => StatusCode::OK.into_response(),
        other => store_failed(other),
    }
}
