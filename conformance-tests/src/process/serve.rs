//! [`serve`]: what a child process does.

use std::io::{self, Read};
use std::process::ExitCode;
use std::sync::Arc;

use idem_core::CompleteOutcome;
use idem_core::store::ReserveOutcome;
use tokio::runtime::Runtime;

use super::child::{HARNESS, LOCATION, TASK};
use super::frame;
use super::task::Task;
use super::wire::{Failure, Request};
use crate::values::usual_key;
use crate::{Caller, Harness, Instance};

/// Does the task in the environment, if there is one: then this process is a child of a case, and not the suite.
pub(crate) fn serve(harnesses: &[(&'static str, Arc<dyn Harness>)]) -> Option<ExitCode> {
    let task = Task::from_word(&std::env::var(TASK).ok()?).expect("the suite writes tasks that it can read");
    let given = |name| std::env::var(name).expect("each task has a harness and a location");
    let (name, location) = (given(HARNESS), given(LOCATION));
    let named = harnesses.iter().find(|(known, _)| *known == name);
    let harness = &*named.expect("the parent has the same harnesses").1;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made wherever tests can run");
    if task == Task::Serve {
        carry_out_calls(&runtime, &*runtime.block_on(harness.open(&location)));
        return Some(ExitCode::SUCCESS);
    }
    let word = runtime.block_on(perform(harness, task, &location));
    println!("{word}");
    // Waits until it is killed, or until its parent ends, which closes the pipe.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Some(ExitCode::SUCCESS)
}

async fn perform(harness: &dyn Harness, task: Task, location: &str) -> &'static str {
    let instance = harness.open(location).await;
    let caller = Caller::new(instance.store(), usual_key());
    let word = match task {
        Task::Open | Task::Serve => "opened",
        Task::Reserve { lease } => match caller.lease(lease).try_reserve().await {
            Ok(ReserveOutcome::Reserved { .. }) => "reserved",
            Ok(ReserveOutcome::InFlight { .. }) => "in flight",
            Ok(_) | Err(_) => "failed",
        },
        Task::Complete => match (caller.try_reserve().await, caller.try_complete(Task::ANSWER).await) {
            (Ok(_), Ok(CompleteOutcome::Completed)) => "completed",
            _ => "failed",
        },
    };
    // Dropping the instance could clean up what a killed process leaves behind.
    std::mem::forget(instance);
    word
}

/// Carries out the calls of the parent, all at once, until the pipe closes.
fn carry_out_calls(runtime: &Runtime, instance: &dyn Instance) {
    let mut input = io::stdin().lock();
    while let Ok((number, request)) = frame::read::<(u64, Request)>(&mut input) {
        let store = instance.store();
        runtime.spawn(async move {
            let reply = request.send(&*store).await.map_err(|error| Failure::from(&error));
            // If the parent is gone, the reply is not needed.
            let _ = frame::write(&mut io::stdout().lock(), &(number, reply));
        });
    }
}
