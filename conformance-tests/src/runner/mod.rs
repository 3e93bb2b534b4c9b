//! Running the suite: [`run`] and [`main!`](crate::main) for test programs, [`check`] for a single case.

mod check;
mod panics;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::case::Case;
use crate::{Harness, process};

use check::check_of;
pub use check::{Verdict, check};

/// Runs every case over each of the harnesses, with the command line of `cargo test`: filters, `--list`, `--exact`,
/// `--test-threads`, and nextest.
///
/// Call it from the `main` of a test with `harness = false`, or use [`main!`](crate::main). The name of a harness comes
/// before the names of its cases, unless it is empty.
pub fn run(harnesses: impl IntoIterator<Item = (&'static str, Arc<dyn Harness>)>) -> ExitCode {
    let harnesses: Vec<_> = harnesses.into_iter().collect();
    if let Some(exit_code) = process::serve(&harnesses) {
        return exit_code;
    }
    let arguments = Arguments::from_args();
    let trials = harnesses
        .iter()
        .flat_map(|(name, harness)| cases().map(|case| trial(&arguments, name, harness, case)));
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(arguments: &Arguments, name: &'static str, harness: &Arc<dyn Harness>, case: Case) -> Trial {
    // A case that runs ignores itself, because only then libtest-mimic prints the reason. A list needs the flag, also the
    // list that nextest asks for.
    let needs_flag = arguments.list || arguments.ignored || arguments.include_ignored;
    let is_ignored = needs_flag && case.ignored(&**harness).is_some();
    let title = if name.is_empty() { case.name() } else { format!("{name}::{}", case.name()) };
    let harness = Arc::clone(harness);
    Trial::ignorable_test(title, move || match check_of(name, &harness, &case) {
        Verdict::Passed => Ok(Completion::Completed),
        Verdict::Ignored(reason) => Ok(Completion::ignored_with(reason)),
        Verdict::Failed(why) => Err(Failed::from(why)),
    })
    .with_ignored_flag(is_ignored)
}

/// Every case of the suite, in the order of the scenarios.
pub fn cases() -> impl Iterator<Item = Case> {
    crate::cases::all()
}

/// The `main` of a test that runs the suite over one harness, `main!(MyHarness)`, or over several that have names:
///
/// ```no_run
/// # use idem_conformance::{Clock, Harness, InProcess, Instance, Reference};
/// # struct MyHarness { pooled: bool }
/// # #[async_trait::async_trait] impl Harness for MyHarness {
/// #     async fn fresh(&self) -> Box<dyn Instance> { Box::new(InProcess::new(Reference::new())) }
/// #     fn clock(&self) -> Clock { Clock::Tokio }
/// # }
/// idem_conformance::main!(
///     "direct" => MyHarness { pooled: false },
///     "pooled" => MyHarness { pooled: true },
/// );
/// ```
#[macro_export]
macro_rules! main {
    ($($name:literal => $harness:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run([$(($name, ::std::sync::Arc::new($harness) as ::std::sync::Arc<dyn $crate::Harness>)),+])
        }
    };
    ($harness:expr) => {
        $crate::main!("" => $harness);
    };
}
