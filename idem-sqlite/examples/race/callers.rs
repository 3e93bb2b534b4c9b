//! The callers of one process: threads that send the same request at the same instant.

use std::error::Error;
use std::ops::Range;
use std::sync::Barrier;
use std::{io, thread};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::service::{Answer, Service};

/// The result of one caller's request for one key.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The number of the key, from 0.
    pub(crate) key: usize,
    /// The answer, or why there is none.
    pub(crate) answer: Result<Answer, String>,
}

/// Sends all requests: for one key after another, all callers at once. When the callers of this process are ready for a
/// key, `gate` waits until those of the other processes are ready too.
pub(crate) fn race(
    service: &Service,
    runtime: &Handle,
    keys: &[String],
    callers: Range<u32>,
    mut gate: impl FnMut() -> io::Result<()>,
) -> Result<Vec<Asked>, Box<dyn Error>> {
    let [ready, start] = [(); 2].map(|()| Barrier::new(callers.len() + 1));
    let (ready, start) = (&ready, &start);
    thread::scope(|scope| {
        let threads: Vec<_> = callers
            .map(|caller| {
                // A caller that fails continues with the next key; otherwise the others would wait at the barriers
                // forever.
                let asks = keys.iter().enumerate().map(move |(number, key)| {
                    ready.wait();
                    start.wait();
                    let answer = runtime.block_on(service.ask(key, caller));
                    Asked { key: number, answer: answer.map_err(|error| error.to_string()) }
                });
                scope.spawn(move || asks.collect::<Vec<_>>())
            })
            .collect();

        for _ in keys {
            ready.wait();
            // If the gate fails, the other processes are gone.
            let open = gate();
            start.wait();
            if let Err(error) = open {
                eprintln!("the race was stopped: {error}");
                std::process::exit(2);
            }
        }
        // A panic in a thread continues here.
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        Ok(joined.flat_map(|asked| asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect())
    })
}
