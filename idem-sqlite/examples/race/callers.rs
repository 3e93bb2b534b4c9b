//! The callers: threads of the operating system that ask for the same key at the same instant.

use std::error::Error;
use std::sync::Barrier;
use std::thread;

use tokio::runtime::Handle;

use crate::service::{Answer, Service};

/// What came of one caller's request.
pub(crate) type Asked = Result<Answer, Box<dyn Error + Send + Sync>>;

/// Lets every caller ask for each key, all callers together for one key after another. The answers come back by key.
pub(crate) fn race(service: &Service, runtime: &Handle, keys: &[String], callers: u32) -> Vec<Vec<Asked>> {
    let start = Barrier::new(callers as usize);
    let start = &start;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..callers)
            .map(|caller| {
                // A caller that fails goes on with the next key: one that stayed away from the barrier would leave all
                // the others waiting for it.
                let asks = keys.iter().map(move |key| {
                    start.wait();
                    runtime.block_on(service.ask(key, caller))
                });
                scope.spawn(move || asks.collect::<Vec<_>>())
            })
            .collect();

        let mut by_key: Vec<Vec<Asked>> = keys.iter().map(|_| Vec::new()).collect();
        for thread in threads {
            // Nothing in the race panics by design; if something does, the panic is what the reader has to see.
            let asked = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            by_key.iter_mut().zip(asked).for_each(|(of_key, answer)| of_key.push(answer));
        }
        by_key
    })
}
