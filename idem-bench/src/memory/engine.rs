//! Figure b: a first request through the engine, with its defaults (heartbeat, deadlines, tracing), against the floor.

use std::convert::Infallible;
use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use idem_core::{Engine, Outcome};
use idem_memory::MemoryStore;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::requests::next_numbers;
use super::setup::Scale;
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};
use crate::subject::{check_answers, fingerprint};

pub(super) fn first(scale: &Scale, runtime: &Runtime) -> Result<Figure, Box<dyn Error>> {
    let (load, fingerprint) = (Load::new(1024), fingerprint());
    let (mut floor_numbers, mut engine_numbers) =
        (next_numbers(scale.requests), next_numbers(scale.requests));
    // One engine is built in advance only to show that the defaults are valid; each round has its own.
    Engine::builder(MemoryStore::new()).build()?;

    let rounds = alternate(
        scale.rounds,
        || {
            let numbers = floor_numbers();
            let (floor, requests) = (Floor::default(), load.requests(numbers.clone()));
            let count = requests.len();
            let started = Instant::now();
            for request in requests {
                floor.first_request(fingerprint, request);
            }
            let took = nanos_each(started, count);
            floor.check_answers(&fingerprint, &load, numbers);
            took
        },
        || {
            let numbers = engine_numbers();
            let requests = load.requests(numbers.clone());
            let count = requests.len();
            let Ok(engine) = Engine::builder(MemoryStore::new()).build() else {
                panic!("the same builder gave an engine before");
            };
            let took = runtime.block_on(async {
                let started = Instant::now();
                for request in requests {
                    let answer = request.answer;
                    let handler = |_attempt| async move { Ok::<Bytes, Infallible>(answer) };
                    let outcome = engine.execute_bytes(&request.key, &fingerprint, handler).await;
                    assert!(matches!(outcome, Ok(Outcome::Executed(_))), "{outcome:?}");
                }
                nanos_each(started, count)
            });
            check_answers(runtime, &**engine.store(), &load, numbers);
            took
        },
    );
    Ok(Figure {
        id: "b",
        what: "first request through the engine, 1 KiB answer: execute_bytes, minus the floor".to_owned(),
        unit: "ns",
        target: Target::AtMost(600.0),
        value: rounds.difference(),
        comparisons: vec![("floor", rounds.floor()), ("engine", rounds.subject())],
        flush: None,
    })
}
