//! Figure i: first requests at the store from eight threads at once.

use std::error::Error;
use std::sync::Arc;

use idem_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

use super::Scale;
use super::requests::next_numbers;
use crate::callers::{first_requests, shares};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::alternate;
use crate::subject::check_answers;

const THREADS: usize = 8;

/// Each round fills an empty store. One thread and eight take turns, with the same number of requests.
pub(super) fn first(scale: &Scale) -> Result<Figure, Box<dyn Error>> {
    let (one, many) = (runtime(1)?, runtime(THREADS)?);
    let load = Load::new(1024);
    let side = |runtime, threads| {
        let mut numbers = next_numbers(scale.requests);
        move || {
            let numbers = numbers();
            let store = Arc::new(MemoryStore::new());
            let took = first_requests(runtime, &store, shares(load.requests(numbers.clone()), threads));
            check_answers(runtime, &*store, &load, numbers);
            took
        }
    };
    let rounds = alternate(scale.rounds, side(&one, 1), side(&many, THREADS));
    Ok(Figure {
        id: "i",
        what: format!(
            "first request at the store, 1 KiB answer, {THREADS} threads at once: time by requests"
        ),
        unit: "ns",
        target: Target::Untargeted,
        value: rounds.subject(),
        beside: vec![("1 thread", rounds.floor())],
        flush: None,
    })
}

fn runtime(threads: usize) -> Result<Runtime, Box<dyn Error>> {
    Ok(Builder::new_multi_thread().worker_threads(threads).enable_time().build()?)
}
