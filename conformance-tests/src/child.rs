//! The other processes of the crash cases: this very program, started again with a task in its environment.

use crate::span;
use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use idem_core::CompleteOutcome;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};

use crate::caller::bytes;
use crate::context::{DAY, HOUR, fingerprint, usual_key};
use crate::{Harness, remote};

const TASK: &str = "IDEM_CONFORMANCE_TASK";
const LOCATION: &str = "IDEM_CONFORMANCE_LOCATION";

/// What a child does before it says so and waits to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Opens the store: "opened".
    Open,
    /// Reserves the cases' usual key: "reserved" or "in flight".
    Reserve { lease: Duration },
    /// Reserves and completes it with [`Task::ANSWER`]: "completed".
    Complete,
    /// Carries out the calls that are sent to it; see [`remote`](crate::remote).
    Serve,
}

impl Task {
    pub(crate) const ANSWER: &str = "an answer from a process that is no more";

    fn to_word(self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Reserve { lease } => format!("reserve {}", lease.as_micros()),
            Self::Complete => "complete".to_owned(),
            Self::Serve => "serve".to_owned(),
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        match word.split_once(' ') {
            Some(("reserve", micros)) => {
                Some(Self::Reserve { lease: Duration::from_micros(micros.parse().ok()?) })
            }
            None if word == "open" => Some(Self::Open),
            None if word == "complete" => Some(Self::Complete),
            None if word == "serve" => Some(Self::Serve),
            _ => None,
        }
    }
}

/// A child process. Killed when it is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(task: &Task, location: &str) -> Self {
        let program = std::env::current_exe().expect("the program knows where it is");
        let mut process = Command::new(program)
            .env(TASK, task.to_word())
            .env(LOCATION, location)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts once more");
        let output = process.stdout.take().map(BufReader::new);
        Self { process, output }
    }

    /// What it says when it is done; empty if it died before.
    pub(crate) fn said(&mut self) -> String {
        let mut line = String::new();
        let output = self.output.as_mut().expect("it is asked for words or for its pipes, not for both");
        output.read_line(&mut line).expect("a pipe can be read");
        line.trim_end().to_owned()
    }

    /// What it is told, and what it tells, by those who speak with it in their own way. Taken once.
    pub(crate) fn pipes(&mut self) -> (ChildStdin, ChildStdout) {
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
        // It may have died by itself, which the case notices in what it said.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Does the task in the environment, if there is one: then this process is a child, and not the suite.
pub(crate) fn serve(harness: &Arc<dyn Harness>) -> Option<ExitCode> {
    let task = Task::from_word(&std::env::var(TASK).ok()?).expect("the suite writes tasks that it can read");
    let location = std::env::var(LOCATION).expect("each task comes with a location");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made wherever tests can run");
    if task == Task::Serve {
        remote::serve(&runtime, &*runtime.block_on(harness.open(&location)));
        return Some(ExitCode::SUCCESS);
    }
    let said = runtime.block_on(perform(&**harness, task, &location));
    println!("{said}");
    // Until it is killed, or whoever started it is gone: that closes the pipe.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Some(ExitCode::SUCCESS)
}

async fn perform(harness: &dyn Harness, task: Task, location: &str) -> &'static str {
    let instance = harness.open(location).await;
    let (store, key, owner) = (instance.store(), usual_key(), OwnerToken::random());
    let payload = fingerprint("payload");
    let said = match task {
        Task::Open | Task::Serve => "opened",
        Task::Reserve { lease } => {
            match store.reserve(&key, ReserveRequest::new(owner, payload, span(lease))).await {
                Ok(ReserveOutcome::Reserved { .. }) => "reserved",
                Ok(ReserveOutcome::InFlight { .. }) => "in flight",
                Ok(_) | Err(_) => "failed",
            }
        }
        Task::Complete => {
            let reserved = store.reserve(&key, ReserveRequest::new(owner, payload, span(HOUR))).await;
            let completion = Completion::new(bytes(Task::ANSWER), span(DAY));
            match (reserved, store.complete(&key, owner, completion).await) {
                (Ok(_), Ok(CompleteOutcome::Completed)) => "completed",
                _ => "failed",
            }
        }
    };
    // What the instance cleans up when it is dropped has to stay: this process is killed.
    std::mem::forget(instance);
    said
}
