//! Figures k to m: round trips, by the server's own count.
//!
//! What is counted are the server's reads from its sockets (`total_reads_processed`). One caller who waits for each answer
//! before it asks again, as here, causes one for each round trip, however many commands are in it, and whatever a script
//! calls. The question for the count is one itself.

use std::error::Error;

use idem_core::ReservationStore;
use idem_core::store::{OwnerToken, ReserveOutcome};
use tokio::runtime::Runtime;

use super::server::{Server, statistic};
use super::setup::Scale;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::Spread;
use crate::subject::{fingerprint, first_request, reserve};

pub(super) fn counted(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let load = Load::new(64);
    let count = scale.alone;
    runtime.block_on(async {
        let store = server.store().await?;
        let mut connection = server.connection().await?;
        let mut reads = async || statistic::<u64>(&mut connection, "stats", "total_reads_processed").await;

        // The server knows the scripts from then on.
        for request in load.requests(0..1) {
            first_request(&store, fingerprint(), request).await;
        }
        let begins = reads().await?;
        for request in load.requests(1..1 + count) {
            first_request(&store, fingerprint(), request).await;
        }
        let first = reads().await? - begins - 1;

        let begins = reads().await?;
        for number in 1..=count {
            let outcome =
                store.reserve(&load.key(number), reserve(OwnerToken::random(), fingerprint())).await;
            assert!(matches!(outcome, Ok(ReserveOutcome::Completed { .. })), "{outcome:?}");
        }
        let replays = reads().await? - begins - 1;

        let running = load.requests(1 + count..2 + count).remove(0);
        let outcome = store.reserve(&running.key, reserve(running.owner, fingerprint())).await;
        assert!(matches!(outcome, Ok(ReserveOutcome::Reserved { .. })), "{outcome:?}");
        let begins = reads().await?;
        for _ in 0..count {
            let outcome = store.reserve(&running.key, reserve(OwnerToken::random(), fingerprint())).await;
            assert!(matches!(outcome, Ok(ReserveOutcome::InFlight { .. })), "{outcome:?}");
        }
        let refusals = reads().await? - begins - 1;

        #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 requests")]
        let figure = |id, what: &str, trips: u64, target| Figure {
            id,
            what: format!("round trips of {what}, by the server's count of its reads"),
            unit: "",
            // The store's own looks at the server's health fall into the count; a second trip for every tenth does not pass.
            target: Target::AtMost(target + 0.05),
            value: Spread::single(trips as f64 / count as f64),
            comparisons: Vec::new(),
            flush: None,
        };
        Ok(vec![
            figure("k", "a first request", first, 2.0),
            figure("l", "a replay", replays, 1.0),
            figure("m", "a refusal", refusals, 1.0),
        ])
    })
}
