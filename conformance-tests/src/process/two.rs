//! [`with_second_process`]: a context whose second handle is in another process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::ReservationStore;

use super::remote::Remote;
use crate::Instance;
use crate::case::Context;

/// A context over a new location, whose second handle is in another process.
pub(crate) async fn with_second_process(cx: &Context) -> Context {
    let location = cx.harness().new_location();
    let here = cx.harness().open(&location).await;
    let there = Arc::new(Remote::start(cx.harness_name(), &location));
    cx.over(Box::new(TwoProcesses { here, there }))
}

struct TwoProcesses {
    here: Box<dyn Instance>,
    there: Arc<Remote>,
}

#[async_trait]
impl Instance for TwoProcesses {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.here.store()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.there.clone()
    }

    async fn advance(&self, by: Duration) {
        self.here.advance(by).await;
    }
}
