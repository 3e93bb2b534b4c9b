//! The conformance suite over the store, on tokio's clock: paused and moved where there are no threads.

use idem_conformance::{Clock, Harness, InProcess, Instance};
use idem_memory::MemoryStore;

struct Memory;

#[async_trait::async_trait]
impl Harness for Memory {
    async fn fresh(&self) -> Box<dyn Instance> {
        Box::new(InProcess::new(MemoryStore::new()))
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(16 << 20) // the default
    }
}

idem_conformance::main!(Memory);
