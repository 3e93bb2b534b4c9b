//! Concurrency: callers on several threads, half of them through a second handle, that want the same at once.

mod crowds;
mod duels;
mod sweeps;

use crate::case::Case;

pub(super) const CASES: [&[Case]; 3] = [crowds::CASES, duels::CASES, sweeps::CASES];
