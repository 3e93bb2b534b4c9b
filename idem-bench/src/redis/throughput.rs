//! Figures a to f: first requests by 1 to 256 callers at once.

use std::error::Error;
use std::sync::Arc;

use idem_redis::RedisStore;
use tokio::runtime::Runtime;

use super::Scale;
use super::callers::{all_at_once, shares};
use super::floor::Floor;
use super::server::Server;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::{check_answers, fingerprint, first_request};

/// What the subject is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Fenced,
    Unsafe,
}

/// The figure, its callers, what it is compared with, and how many times as fast it has to be.
const FIGURES: [(&str, usize, Against, f64); 6] = [
    ("a", 1, Against::Fenced, 0.9),
    ("b", 16, Against::Fenced, 0.9),
    ("c", 64, Against::Fenced, 0.9),
    ("d", 256, Against::Fenced, 0.9),
    ("e", 1, Against::Unsafe, 1.3),
    ("f", 64, Against::Unsafe, 0.9),
];

pub(super) fn first_requests(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let store = Arc::new(runtime.block_on(server.store())?);
    let floor = runtime.block_on(async { Floor::new(server.connection().await?).await })?;
    Ok(FIGURES
        .map(|(id, callers, against, target)| {
            of(scale, &store, &floor, runtime, (id, callers, against, target))
        })
        .into())
}

fn of(
    scale: &Scale,
    store: &Arc<RedisStore>,
    floor: &Floor,
    runtime: &Runtime,
    (id, callers, against, target): (&'static str, usize, Against, f64),
) -> Figure {
    // Their keys differ, since each load has a seed of its own.
    let (of_floor, of_store) = (Load::new(64), Load::new(64));
    let count = if callers == 1 { scale.alone } else { scale.together };
    let (mut floor_next, mut store_next) = (0, 0);
    let requests = |load: &Load, next: &mut u64| {
        *next += count;
        shares(load.requests(*next - count..*next), callers)
    };

    let rounds = alternate(
        scale.rounds,
        || {
            all_at_once(runtime, requests(&of_floor, &mut floor_next), |requests| {
                let mut floor = floor.clone();
                async move {
                    for request in &requests {
                        match against {
                            Against::Fenced => floor.fenced(request).await,
                            Against::Unsafe => floor.unfenced(request).await,
                        }
                    }
                }
            })
        },
        || {
            let begins = store_next;
            let took = all_at_once(runtime, requests(&of_store, &mut store_next), |requests| {
                let store = Arc::clone(store);
                async move {
                    for request in requests {
                        first_request(&*store, fingerprint(), request).await;
                    }
                }
            });
            check_answers(runtime, &**store, &of_store, begins..store_next);
            took
        },
    );
    let than = match against {
        Against::Fenced => "`SET NX GET` and one compare-and-set script",
        Against::Unsafe => "the unsafe `GET`, `SETNX`, `SET`",
    };
    let per_second = Spread::single(1e9 / rounds.floor().median);
    Figure {
        id,
        what: format!(
            "first requests by {callers} callers, as often as {than} ({:.0} a second here)",
            per_second.median
        ),
        unit: "x",
        target: Target::AtLeast(target),
        value: rounds.speed(),
        beside: Vec::new(),
        flush: None,
    }
}
