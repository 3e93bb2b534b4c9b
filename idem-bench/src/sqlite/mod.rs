//! The store in a SQLite file.
//!
//! - [`floor`]: bare SQLite, one transaction per operation.
//! - [`throughput`]: first requests by 1 to 256 callers at once, as durable as the floor (figures a to d).
//! - [`replay`]: a replay while the writer is busy (e).
//! - [`growth`]: what a large file costs, in time and in bytes (f, g).
//! - [`layouts`]: what other forms of the table would cost (h to k).

mod floor;
mod growth;
mod layouts;
mod replay;
mod setup;
mod throughput;

use std::error::Error;
use std::path::Path;

use crate::report::Figure;

pub(crate) use self::setup::Scale;

/// All figures, once, in files below `directory`.
pub(crate) fn run(scale: &Scale, directory: &Path) -> Result<Vec<Figure>, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let mut figures = throughput::first_requests(scale, directory, &runtime)?;
    figures.push(replay::with_a_busy_writer(scale, directory, &runtime)?);
    figures.extend(growth::slowdown_and_size(scale, directory, &runtime)?);
    figures.extend(layouts::compared(scale, directory)?);
    Ok(figures)
}
