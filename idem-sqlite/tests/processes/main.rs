//! Tests that need other processes: kills at any instant, crashes of the machine, and disks that fail.
//!
//! The other processes are this program, started again with a task in its environment: see `worker`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod crash_images;
mod disk;
mod failing_disk;
mod image;
mod kills;
#[path = "../support/mod.rs"]
mod support;
mod trace;
mod worker;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(exit_code) = worker::serve() {
        return exit_code;
    }
    let trials = [crash_images::trials(), failing_disk::trials(), kills::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}
