//! Figures a to f: first requests by 1 to 256 callers at once.

use std::error::Error;
use std::sync::Arc;

use idem_redis::RedisStore;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::processors::{Bill, Processors, explained};
use super::server::Server;
use super::setup::Scale;
use crate::callers::{self, all_at_once, shares};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate};
use crate::subject::check_answers;

/// What the subject is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    Fenced,
    Unsafe,
}

/// The figure, its callers, what it is compared with, how many times as fast it has to be, and the figure that explains it.
const FIGURES: [(&str, usize, Against, f64, Option<&str>); 6] = [
    ("a", 1, Against::Fenced, 0.9, None),
    ("b", 16, Against::Fenced, 0.9, None),
    ("c", 64, Against::Fenced, 0.9, Some("n")),
    ("d", 256, Against::Fenced, 0.9, None),
    ("e", 1, Against::Unsafe, 1.3, None),
    ("f", 64, Against::Unsafe, 0.9, Some("o")),
];

pub(super) fn first_requests(
    scale: &Scale,
    server: &Server,
    runtime: &Runtime,
) -> Result<Vec<Figure>, Box<dyn Error>> {
    let store = Arc::new(runtime.block_on(server.store())?);
    let floor = runtime.block_on(async { Floor::new(server.connection().await?).await })?;
    let processors = Processors::new(runtime, runtime.block_on(server.connection())?);
    let figures = FIGURES.map(|figure| of(scale, &store, &floor, runtime, &processors, figure));
    Ok(figures.into_iter().flatten().collect())
}

fn of(
    scale: &Scale,
    store: &Arc<RedisStore>,
    floor: &Floor,
    runtime: &Runtime,
    processors: &Processors<'_>,
    (id, callers, against, target, explained_by): (&'static str, usize, Against, f64, Option<&'static str>),
) -> Vec<Figure> {
    // Their keys differ, since each load has a seed of its own.
    let (of_floor, of_store) = (Load::new(64), Load::new(64));
    let count = if callers == 1 { scale.alone } else { scale.together };
    let (mut floor_next, mut store_next) = (0, 0);
    let requests = |load: &Load, next: &mut u64| {
        *next += count;
        shares(load.requests(*next - count..*next), callers)
    };

    let (floor_bill, bill) = (Bill::default(), Bill::default());
    let rounds = alternate(
        scale.rounds,
        || {
            let requests = requests(&of_floor, &mut floor_next);
            let round = || {
                all_at_once(runtime, requests, |requests| {
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
            };
            processors.charge(&floor_bill, count, round)
        },
        || {
            let begins = store_next;
            let requests = requests(&of_store, &mut store_next);
            let took = processors.charge(&bill, count, || callers::first_requests(runtime, store, requests));
            check_answers(runtime, &**store, &of_store, begins..store_next);
            took
        },
    );
    let than = match against {
        Against::Fenced => "`SET NX GET` and one compare-and-set script",
        Against::Unsafe => "the unsafe `GET`, `SETNX`, `SET`",
    };
    let per_second = Spread::single(1e9 / rounds.floor().median);
    let figure = Figure {
        id,
        what: format!(
            "first requests by {callers} callers, as often as {than} ({:.0} a second here)",
            per_second.median
        ),
        unit: "x",
        target: Target::AtLeast(target),
        value: rounds.speed(),
        comparisons: Vec::new(),
        flush: None,
    };
    let what = format!("a first request by {callers} callers, compared with {than}");
    let explanation = explained_by.map(|id| explained(id, &what, &floor_bill, &bill));
    std::iter::once(figure).chain(explanation).collect()
}
