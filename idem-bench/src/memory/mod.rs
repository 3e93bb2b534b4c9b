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
mod setup;
mod token;

use std::error::Error;

use crate::report::Figure;

pub(crate) use self::setup::Scale;

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
