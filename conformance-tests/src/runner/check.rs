//! [`check`]: runs one case.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::panics::Panics;
use crate::case::{Case, Context, Setting};
use crate::{Clock, Harness};

/// How long a case may take. Far above what any needs, even over a slow server: it turns a suite that hangs into one that
/// fails.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The store does what the case says.
    Passed,
    /// The store does not, or the case panicked or hung. Contains the report.
    Failed(String),
    /// The backend cannot run the case. Contains the reason.
    Ignored(&'static str),
}

/// Runs one case on a fresh store, and prints nothing.
pub fn check(harness: &Arc<dyn Harness>, case: &Case) -> Verdict {
    check_of("", harness, case)
}

/// Runs one case of the named harness.
pub(super) fn check_of(name: &'static str, harness: &Arc<dyn Harness>, case: &Case) -> Verdict {
    if let Some(reason) = case.ignored(&**harness) {
        return Verdict::Ignored(reason);
    }
    let panics = Panics::default();
    let (report, ended) = channel();
    let (harness, case) = (Arc::clone(harness), *case);
    let listener = panics.clone();
    // The case has a thread of its own, so that one that hangs can be left behind.
    let spawned = thread::Builder::new().name(case.name()).spawn(move || {
        listener.listen_on_this_thread();
        let passed = catch_unwind(AssertUnwindSafe(|| {
            let runtime = runtime(&*harness, case.setting, &listener);
            runtime.block_on(async { (case.run)(Context::new(name, harness, case.setting).await).await });
        }));
        // The receiver is gone if the case took too long.
        let _ = report.send(passed.is_ok());
    });
    if let Err(error) = spawned {
        return Verdict::Failed(format!("no thread could be started: {error}"));
    }
    match ended.recv_timeout(TIMEOUT) {
        Ok(true) => Verdict::Passed,
        Ok(false) | Err(RecvTimeoutError::Disconnected) => Verdict::Failed(panics.report()),
        Err(RecvTimeoutError::Timeout) => Verdict::Failed(format!("it did not end within {TIMEOUT:?}")),
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
