//! [`Child`]: this very program, started again with a [`Task`] in its environment.

use std::io::{BufRead, BufReader};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use super::task::Task;

/// The task of a child.
pub(super) const TASK: &str = "IDEM_CONFORMANCE_TASK";
/// The name of its harness.
pub(super) const HARNESS: &str = "IDEM_CONFORMANCE_HARNESS";
/// The location of its store.
pub(super) const LOCATION: &str = "IDEM_CONFORMANCE_LOCATION";

/// A child process. It is killed when this is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts a child that finds the store through the harness of this name, at this location.
    pub(crate) fn start(harness: &str, task: &Task, location: &str) -> Self {
        let program = std::env::current_exe().expect("the program knows where it is");
        let mut process = Command::new(program)
            .env(TASK, task.to_word())
            .env(HARNESS, harness)
            .env(LOCATION, location)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts once more");
        let output = process.stdout.take().map(BufReader::new);
        Self { process, output }
    }

    /// The word that it prints when its task is done; empty if it died before that.
    pub(crate) fn word(&mut self) -> String {
        let mut line = String::new();
        let output = self.output.as_mut().expect("its pipes are not taken");
        output.read_line(&mut line).expect("a pipe can be read");
        line.trim_end().to_owned()
    }

    /// Takes its standard input and output.
    pub(super) fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
        let input = self.process.stdin.take().expect("it is piped, and taken once");
        let output = self.output.take().expect("it is taken once");
        (input, output.into_inner())
    }

    /// Kills it without a warning, and waits until it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have died by itself, which the case sees in its word.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
