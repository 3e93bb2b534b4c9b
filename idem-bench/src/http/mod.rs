//! The HTTP layer, in process, on the memory store: what it adds to a bare handler.
//!
//! - [`services`]: the bare handler, the same behind the layer, and behind a cache written by hand.
//! - [`waiters`]: how long after the handler's end a waiting duplicate is answered.

mod services;
mod waiters;

use std::error::Error;
use std::time::Instant;

use crate::http::services::{Bare, Cached, Kind, Service, ask, guarded};
use crate::load::Load;
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Scale {
    rounds: usize,
    requests: u64,
}

impl Scale {
    pub(crate) fn new(quick: bool) -> Self {
        if quick { Self { rounds: 7, requests: 1_000 } } else { Self { rounds: 15, requests: 20_000 } }
    }
}

/// All figures, once.
pub(crate) fn run(scale: &Scale) -> Result<Vec<Figure>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let figure = |id, kind, what: &str, most| {
        let load = Load::new(1024);
        // Each round has a store of its own, empty or with every answer.
        let mut side = |is_guarded: bool| {
            let load = &load;
            runtime.block_on(async {
                if is_guarded {
                    round(guarded(load), kind, load, scale.requests).await
                } else {
                    round(Bare::new(load), kind, load, scale.requests).await
                }
            })
        };
        let cached = runtime.block_on(async { round(Cached::new(&load), kind, &load, scale.requests).await });
        let side = std::cell::RefCell::new(&mut side);
        let rounds = alternate(scale.rounds, || side.borrow_mut()(false), || side.borrow_mut()(true));
        Figure {
            id,
            what: what.to_owned(),
            unit: "ns",
            target: Target::AtMost(most),
            value: rounds.difference(),
            comparisons: vec![
                ("bare handler", rounds.floor()),
                ("with the layer", rounds.subject()),
                ("GET (miss), run, SET", crate::rounds::Spread::single(cached)),
            ],
            flush: None,
        }
    };
    Ok(vec![
        figure("h1", Kind::First, "first request, 1 KiB answer, minus the bare handler", 2_500.0),
        figure("h2", Kind::Replay, "replay, 1 KiB answer, minus the bare handler", 1_200.0),
        figure("h3", Kind::PassBy, "a method that passes by, minus the bare handler", 100.0),
        waiters::figure(scale.rounds, &runtime),
    ])
}

/// One round: nanoseconds for each request. Every answer is checked.
async fn round<S: Service>(mut service: S, kind: Kind, load: &Load, requests: u64) -> f64 {
    if kind == Kind::Replay {
        for number in 0..requests {
            ask(&mut service, load.first(number)).await;
        }
    }
    let asked: Vec<_> = (0..requests).map(|number| load.of(kind, number)).collect();
    let mut answers = Vec::with_capacity(asked.len());
    let started = Instant::now();
    for request in asked {
        answers.push(ask(&mut service, request).await);
    }
    let took = nanos_each(started, answers.len());
    for (number, answer) in (0..requests).zip(answers) {
        assert_eq!(answer, load.answer(number), "the answer to request {number}");
    }
    took
}
