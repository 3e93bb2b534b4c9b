//! The other processes: this program, started again with a task.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::{Failed, Trial};

use crate::{crash_images, failing_disk, kills};

const TASK: &str = "IDEM_SQLITE_TASK";
const DIRECTORY: &str = "IDEM_SQLITE_DIRECTORY";

/// The command that starts this program with a task in a directory.
pub(crate) fn command(task: &str, directory: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(TASK, task).env(DIRECTORY, directory);
    command
}

/// Does the task in the environment, if there is one.
pub(crate) fn serve() -> Option<ExitCode> {
    let task = env::var(TASK).ok()?;
    let directory = PathBuf::from(env::var_os(DIRECTORY)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match task.as_str() {
            "workload" => crash_images::work(&directory).await,
            "failing_sync" => failing_disk::meet_failing_syncs(&directory).await,
            "full_disk" => failing_disk::fill_the_disk(&directory).await,
            "read_only_directory" => failing_disk::open_where_nothing_can_be_written(&directory).await,
            "provide" => kills::provide(&directory).await,
            other => panic!("an unknown task: {other}"),
        }
    });
    // The store is not closed.
    std::process::exit(0);
}

/// A test that fails if it panics.
pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        std::panic::catch_unwind(test).map_err(|_| Failed::from("it panicked; see the message above"))
    })
}
