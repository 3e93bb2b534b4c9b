//! The conformance suite over the store of the recipe.

use idem_conformance::{Clock, Harness, InProcess, Instance};
use recipes::backend::MapStore;

struct Map;

#[async_trait::async_trait]
impl Harness for Map {
    async fn fresh(&self) -> Box<dyn Instance> {
        Box::new(InProcess::new(MapStore::new()))
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        None
    }
}

idem_conformance::main!(Map);
