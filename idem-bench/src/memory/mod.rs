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

use crate::report::Figure;

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
