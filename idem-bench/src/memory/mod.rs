//! The in-process store.
//!
//! - [`floor`]: a bare `DashMap` that does the same work.
//! - [`requests`]: first requests, replays and refusals at the store (figures a, c, d).
//! - [`engine`]: first requests through the engine (b).
//! - [`growth`]: what a large store costs (e, f).
//! - [`resident`]: what a record occupies (g).
//! - [`token`]: what an owner token costs (h).

mod engine;
mod floor;
mod growth;
mod requests;
pub(crate) mod resident;
mod token;

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use idem_core::{
    Answer, CompleteOutcome, Completion, Fingerprint, OwnerToken, ReservationStore, Reserve, ReserveOutcome,
    Response,
};
use idem_memory::MemoryStore;
use tokio::runtime::Runtime;

use crate::load::{Load, Request};
use crate::report::Figure;

const LEASE: Duration = Duration::from_secs(60);
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Rounds for each side.
    rounds: usize,
    /// First requests in a round.
    requests: u64,
    /// Records in a small store.
    small: u64,
    /// Records in a large store.
    large: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { rounds: 7, requests: 2_000, small: 10_000, large: 200_000 }
        } else {
            Self { rounds: 15, requests: 20_000, small: 10_000, large: 5_000_000 }
        }
    }
}

/// All figures, once.
pub(crate) fn run(scale: &Scale) -> Result<Vec<Figure>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut figures = vec![
        requests::first(scale, &runtime),
        engine::first(scale, &runtime)?,
        requests::replay(scale, &runtime),
        requests::refusal(scale, &runtime),
    ];
    figures.extend(growth::worst_and_slowdown(scale, &runtime));
    figures.push(resident::figure(scale)?);
    figures.push(token::draw(scale));
    Ok(figures)
}

fn fingerprint() -> Fingerprint {
    Fingerprint::of(["100 EUR"])
}

/// What the engine sends before it runs a handler.
fn reserve(owner: OwnerToken, fingerprint: Fingerprint) -> Reserve {
    Reserve::new(owner, fingerprint, LEASE)
}

/// One first request at the store, with both outcomes checked.
async fn first_request(store: &MemoryStore, fingerprint: Fingerprint, request: Request) {
    let Request { key, owner, answer } = request;
    let reserved = store.reserve(&key, reserve(owner, fingerprint)).await;
    assert!(matches!(reserved, Ok(ReserveOutcome::Reserved { attempt: 1, .. })), "{reserved:?}");
    let completed = store.complete(&key, owner, Completion::new(Response::bytes(answer), RETENTION)).await;
    assert!(matches!(completed, Ok(CompleteOutcome::Completed)), "{completed:?}");
}

/// Asks for every answer again and compares its bytes.
fn check_answers(runtime: &Runtime, store: &dyn ReservationStore, load: &Load, numbers: Range<u64>) {
    let owner = OwnerToken::random();
    runtime.block_on(async {
        for number in numbers {
            let outcome = store.reserve(&load.key(number), reserve(owner, fingerprint())).await;
            let Ok(ReserveOutcome::Completed { answer: Answer::Response(response), .. }) = outcome else {
                panic!("request {number} is not completed: {outcome:?}");
            };
            assert!(response.body == load.answer(number), "request {number} has another answer");
        }
    });
}
