//! [`run`]: the entry point, which runs every case as a named test; [`check`] runs a single one from code.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::case::{Case, Setting};
use crate::context::Context;
use crate::{Clock, Harness, child};

/// How long a case may take before it counts as hung. Far above what any needs, also over a slow server: it only turns
/// a suite that never ends into a failed one.
const HUNG_AFTER: Duration = Duration::from_secs(300);

/// Runs every case against the backend, with the command line of `cargo test`: filters, `--list`, `--exact`,
/// `--test-threads`, and nextest. Call it from the `main` of a test with `harness = false`, or use [`main!`](crate::main).
pub fn run(harness: impl Harness) -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    if let Some(exit_code) = child::serve(&harness) {
        return exit_code;
    }
    let arguments = Arguments::from_args();
    // When they run, ignored cases are ignored by themselves, since only so their reason is printed. Whoever asks
    // which are ignored, as nextest does, has to be told beforehand.
    let told_beforehand = arguments.list || arguments.ignored || arguments.include_ignored;
    let trials = cases().map(|case| {
        let is_ignored = told_beforehand && case.ignored(&*harness).is_some();
        let harness = Arc::clone(&harness);
        Trial::ignorable_test(case.name(), move || match check(&harness, &case) {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Ignored(reason) => Ok(Completion::ignored_with(reason)),
            Verdict::Failed(why) => Err(Failed::from(why)),
        })
        .with_ignored_flag(is_ignored)
    });
    let trials = trials.collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Every case of the suite, in the order of the scenarios.
pub fn cases() -> impl Iterator<Item = Case> {
    crate::cases::all()
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store does what the case says.
    Passed,
    /// It does not, or the case panicked or hung; and what was seen.
    Failed(String),
    /// The backend cannot take part, and why.
    Ignored(&'static str),
}

/// Runs one case on a fresh store, and prints nothing.
pub fn check(harness: &Arc<dyn Harness>, case: &Case) -> Verdict {
    if let Some(reason) = case.ignored(&**harness) {
        return Verdict::Ignored(reason);
    }
    let panics = Panics::default();
    let (report, ended) = channel();
    let (harness, case) = (Arc::clone(harness), *case);
    let listener = panics.clone();
    // A thread of its own, so that a case that hangs can be left behind.
    let spawned = thread::Builder::new().name(case.name()).spawn(move || {
        listener.listen_on_this_thread();
        let passed = catch_unwind(AssertUnwindSafe(|| {
            let runtime = runtime(&*harness, case.setting, &listener);
            runtime.block_on(async { (case.run)(Context::new(harness, case.setting).await).await });
        }));
        // Nobody listens any more if the case was given up.
        let _ = report.send(passed.is_ok());
    });
    if let Err(error) = spawned {
        return Verdict::Failed(format!("no thread could be started: {error}"));
    }
    match ended.recv_timeout(HUNG_AFTER) {
        Ok(true) => Verdict::Passed,
        Ok(false) | Err(RecvTimeoutError::Disconnected) => Verdict::Failed(panics.said()),
        Err(RecvTimeoutError::Timeout) => Verdict::Failed(format!("it did not end within {HUNG_AFTER:?}")),
    }
}

fn runtime(harness: &dyn Harness, setting: Setting, panics: &Panics) -> Runtime {
    let mut builder = match setting {
        Setting::Threads => {
            let panics = panics.clone();
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(8).on_thread_start(move || panics.listen_on_this_thread());
            builder
        }
        Setting::Store | Setting::Engine => {
            let mut builder = Builder::new_current_thread();
            builder.start_paused(harness.clock() == Clock::Tokio);
            builder
        }
    };
    builder.enable_all().build().expect("a runtime can be made wherever tests can run")
}

/// What the panics of one case said. They are collected instead of printed: a case may cause some on purpose, and the
/// message of a failed one belongs into its report.
#[derive(Clone, Default)]
struct Panics {
    said: Arc<Mutex<Vec<String>>>,
}

thread_local! {
    static LISTENER: RefCell<Option<Panics>> = const { RefCell::new(None) };
}

impl Panics {
    fn listen_on_this_thread(&self) {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = take_hook();
            set_hook(Box::new(move |info| {
                let listener = LISTENER.with(|listener| listener.borrow().clone());
                match listener {
                    Some(panics) => {
                        panics.said.lock().unwrap_or_else(PoisonError::into_inner).push(info.to_string());
                    }
                    None => others(info),
                }
            }));
        });
        LISTENER.with(|listener| *listener.borrow_mut() = Some(self.clone()));
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// The `main` of a test that runs the suite: `idem_conformance::main!(MyHarness);`.
#[macro_export]
macro_rules! main {
    ($harness:expr) => {
        fn main() -> std::process::ExitCode {
            $crate::run($harness)
        }
    };
}
