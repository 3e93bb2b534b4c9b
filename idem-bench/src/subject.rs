//! The subject's side of a bench: what is asked of a store, and how its answers are checked.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, Span};
use idem_core::{Answer, CompleteOutcome, Fingerprint, ReservationStore, StoredValue};
use tokio::runtime::Runtime;

use crate::load::{Load, Request};

const LEASE: Span = seconds(60);
const RETENTION: Span = seconds(24 * 3600);

const fn seconds(seconds: u64) -> Span {
    match Span::new(Duration::from_secs(seconds)) {
        Ok(span) => span,
        Err(_) => panic!("more than zero and at most ten years"),
    }
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint::from_parts(["100 EUR"])
}

/// What the engine sends before it runs a handler.
pub(crate) fn reserve(owner: OwnerToken, fingerprint: Fingerprint) -> ReserveRequest {
    ReserveRequest::new(owner, fingerprint, LEASE)
}

/// What the engine sends after the handler has answered.
pub(crate) fn completion(answer: Bytes) -> Completion {
    Completion::new(StoredValue::bytes(answer), RETENTION)
}

/// One first request at the store, with both outcomes checked.
pub(crate) async fn first_request(store: &impl ReservationStore, fingerprint: Fingerprint, request: Request) {
    let Request { key, owner, answer } = request;
    let reserved = store.reserve(&key, reserve(owner, fingerprint)).await;
    assert!(matches!(reserved, Ok(ReserveOutcome::Reserved { attempt: 1, .. })), "{reserved:?}");
    let completed = store.complete(&key, owner, completion(answer)).await;
    assert!(matches!(completed, Ok(CompleteOutcome::Completed)), "{completed:?}");
}

/// Asks for every answer again and compares its bytes.
pub(crate) fn check_answers(
    runtime: &Runtime,
    store: &dyn ReservationStore,
    load: &Load,
    numbers: Range<u64>,
) {
    let owner = OwnerToken::random();
    runtime.block_on(async {
        for number in numbers {
            let outcome = store.reserve(&load.key(number), reserve(owner, fingerprint())).await;
            let Ok(ReserveOutcome::Completed { answer: Answer::Value(response), .. }) = outcome else {
                panic!("request {number} is not completed: {outcome:?}");
            };
            assert!(response.body == load.answer(number), "request {number} has another answer");
        }
    });
}
