//! A step on the thread that writes the file.

use std::thread;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use idem_core::Reservation;
use idem_http::ResponseEncoder;
use idem_sqlite::{SqliteStore, TransactionOutcome};

use super::response::{conflict, created, ended, error_of, rejected, store_failed};
use crate::ledger::Entry;
use crate::request::{Outcome, Simulate};

pub(super) async fn create(
    store: &SqliteStore,
    reservation: Reservation,
    encoder: ResponseEncoder,
    entry: Entry,
    simulate: Simulate,
) -> Response {
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
            Outcome::Error => return Err(Box::new(error_of("the request asks for an error"))),
            Outcome::Panic => panic!("the request asks for a panic"),
            Outcome::Abort => std::process::abort(),
        };
        Ok((answer.clone(), encoder.encode(answer)))
    });
    match transacted.await {
        // The layer answers with what was committed. This is for when the store cannot be asked about it any more.
        Ok(TransactionOutcome::Completed(answer)) => ended(&answer),
        Ok(TransactionOutcome::AlreadyCompleted) => StatusCode::OK.into_response(),
        Ok(TransactionOutcome::RolledBack(answer)) => ended(&answer),
        Ok(TransactionOutcome::Lost) => ended(&conflict()),
        Err(error) => store_failed(&error),
    }
}
