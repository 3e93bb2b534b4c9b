//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Sends each request many times at once, and checks that its handler ran once.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// How many different requests there are
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,
    /// How many callers send each request at the same instant
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) callers: u32,
    /// How many processes the callers are spread over
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) processes: u32,
    /// Use the usual cache (`GET`, run on a miss, `SET`) instead of idem
    #[arg(long)]
    pub(crate) without_idem: bool,
    /// The directory of the race's files, for the processes that are started
    #[arg(long, hide = true, requires = "number")]
    pub(crate) directory: Option<PathBuf>,
    /// The number of this process
    #[arg(long, hide = true, requires = "directory")]
    pub(crate) number: Option<u32>,
}
