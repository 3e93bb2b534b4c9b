//! Figure e: a replay while the writer is busy, against a bare prepared read under the same load.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Answer, ReservationStore};
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::setup::{Scale, open};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate, nanos_each};
use crate::subject::{fingerprint, first_request, reserve};

/// Completed keys that are asked for in turn.
const KEYS: u64 = 1000;
/// Replays in a round, for each caller of `Scale::requests`.
const REPLAYS: u64 = 100;
/// The numbers of what keeps the writer busy, beyond those of the replayed keys.
const BUSY: u64 = 1 << 40;

pub(super) fn with_a_busy_writer(
    scale: &Scale,
    directory: &Path,
    runtime: &Runtime,
) -> Result<Figure, Box<dyn Error>> {
    let files = tempfile::tempdir_in(directory)?;
    let (load, fingerprint) = (Load::new(64), fingerprint());
    let floor = Floor::create(&files.path().join("floor.db"))?;
    let store = Arc::new(runtime.block_on(open(&files.path().join("idem.db")))?);
    for request in load.requests(0..KEYS) {
        floor.first_request(fingerprint, &request)?;
        runtime.block_on(first_request(&*store, fingerprint, request));
    }

    let is_over = Arc::new(AtomicBool::new(false));
    let busy = runtime.spawn({
        let (store, is_over) = (Arc::clone(&store), Arc::clone(&is_over));
        async move {
            for number in BUSY.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                for request in load.requests(number..number + 1) {
                    first_request(&*store, fingerprint, request).await;
                }
            }
        }
    });
    let replays = scale.requests * REPLAYS;
    let keys: Vec<_> = (0..KEYS).map(|number| (load.key(number), load.answer(number))).collect();
    let asked = || keys.iter().cycle().take(usize::try_from(replays).unwrap_or(usize::MAX));
    let rounds = alternate(
        scale.rounds,
        || {
            let started = Instant::now();
            for (key, answer) in asked() {
                let Ok(Some((found, body))) = floor.look_up(key) else { panic!("no answer") };
                assert!(found == fingerprint.as_bytes() && body == answer[..], "another answer");
            }
            nanos_each(started, asked().count())
        },
        || {
            runtime.block_on(async {
                let started = Instant::now();
                for (key, answer) in asked() {
                    let request = black_box(reserve(OwnerToken::random(), fingerprint));
                    let outcome = store.reserve(key, request).await;
                    let Ok(ReserveOutcome::Completed { answer: Answer::Value(replayed), .. }) = outcome
                    else {
                        panic!("not a replay: {outcome:?}");
                    };
                    assert!(replayed.body == *answer, "another answer");
                }
                nanos_each(started, asked().count())
            })
        },
    );
    is_over.store(true, Ordering::Relaxed);
    runtime.block_on(busy)?;

    let per_second = |each: Spread| Spread::single(1e9 / each.median);
    Ok(Figure {
        id: "e",
        what: format!(
            "replays while the writer is busy, as often as a bare prepared read ({:.0} a second here)",
            per_second(rounds.floor()).median
        ),
        unit: "x",
        target: Target::AtLeast(0.8),
        value: rounds.speed(),
        comparisons: Vec::new(),
        flush: None,
    })
}
