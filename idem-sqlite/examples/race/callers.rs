//! The callers of one process: threads of the operating system that ask for the same key at the same instant.

use std::error::Error;
use std::ops::Range;
use std::sync::Barrier;
use std::{io, thread};

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::service::{Answer, Service};

/// What came of one caller's request for one key.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The number of the key, from 0.
    pub(crate) key: usize,
    /// The answer, or why there is none.
    pub(crate) answer: Result<Answer, String>,
}

/// Lets every caller ask for each key, all callers together for one key after another. When those of this process have
/// gathered for a key, `gate` holds them until those of the other processes have, too.
pub(crate) fn race(
    service: &Service,
    runtime: &Handle,
    keys: &[String],
    callers: Range<u32>,
    mut gate: impl FnMut() -> io::Result<()>,
) -> Result<Vec<Asked>, Box<dyn Error>> {
    let [gathered, start] = [(); 2].map(|()| Barrier::new(callers.len() + 1));
    let (gathered, start) = (&gathered, &start);
    thread::scope(|scope| {
        let threads: Vec<_> = callers
            .map(|caller| {
                // A caller that fails goes on with the next key: one that stayed away from the barriers would leave
                // all the others waiting for it.
                let asks = keys.iter().enumerate().map(move |(number, key)| {
                    gathered.wait();
                    start.wait();
                    let answer = runtime.block_on(service.ask(key, caller));
                    Asked { key: number, answer: answer.map_err(|error| error.to_string()) }
                });
                scope.spawn(move || asks.collect::<Vec<_>>())
            })
            .collect();

        for _ in keys {
            gathered.wait();
            // If the gate breaks, the other processes are gone; the threads run the race to its end by themselves.
            let open = gate();
            start.wait();
            if let Err(error) = open {
                // The process ends with its threads; what they would still answer interests nobody.
                eprintln!("the race was called off: {error}");
                std::process::exit(2);
            }
        }
        // Nothing in the race panics by design; if something does, the panic is what the reader has to see.
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        Ok(joined.flat_map(|asked| asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect())
    })
}
