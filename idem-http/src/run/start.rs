//! Starts a run, and ends it as its handler ended.

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use idem_core::Key;
use idem_core::backend::catch_unwind;
use tokio::task::JoinHandle;
use tower_service::Service;
use tracing::Instrument;

use crate::body::{BoxError, RequestBody, ResponseBody};
use crate::config::Config;
use crate::observe;
use crate::run::settle::Run;
use crate::step::slot::{Slot, SlotState};

/// Starts the handler in a task of its own. Dropping the handle does not stop it.
///
/// This is not an `async fn`, because its caller's future would then contain the whole run.
pub(crate) fn start<S, B, R>(
    config: Arc<Config>,
    key: Key,
    slot: Slot,
    service: S,
    mut request: Request<RequestBody<B>>,
) -> JoinHandle<Result<Response<ResponseBody<R>>, S::Error>>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    request.extensions_mut().insert(slot.attempt().clone());
    request.extensions_mut().insert(slot.handle(&config));
    let span = observe::run(&key, slot.attempt().number);
    tokio::spawn(Run { config, key }.run(slot, service, request).instrument(span))
}

impl Run {
    /// The rare ends are boxed, so that the future is not as large as the sum of all ends.
    async fn run<S, B, R>(
        self,
        slot: Slot,
        mut service: S,
        request: Request<RequestBody<B>>,
    ) -> Result<Response<ResponseBody<R>>, S::Error>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>>,
        R: Body<Error: Into<BoxError>>,
    {
        // The call is inside the future, because a service may panic before it returns one.
        let result = catch_unwind(async move { service.call(request).await }).await;
        if result.is_err() {
            observe::panicked(&self.key);
        }
        let reservation = match slot.close() {
            SlotState::Reserved(reservation) => reservation,
            SlotState::HandedOut(receipt) => {
                return Box::pin(self.after_step(&slot, &receipt, result)).await;
            }
            SlotState::Unprotected | SlotState::Closed => return self.handlers_response(result),
        };
        match result {
            Ok(Ok(response)) => Ok(self.settle(reservation, response).await),
            failed => {
                let of_other_run = Box::pin(self.abandon(reservation)).await;
                of_other_run.map_or_else(|| self.handlers_response(failed), Ok)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use idem_core::{Admission, Engine, Fingerprint};
    use idem_memory::MemoryStore;
    use tower::service_fn;

    use super::*;

    const HANDLER_BYTES: usize = 1 << 14;

    #[tokio::test]
    async fn the_future_of_a_run_holds_its_handler_once() {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let key = Key::new("scope", "key").unwrap();
        let admission = engine.reserve(&key, &Fingerprint::from_bytes_of("request")).await;
        let Ok(Admission::Granted(reservation)) = admission else { panic!("{admission:?}") };
        let service = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
            let held = std::hint::black_box([0_u8; HANDLER_BYTES]);
            std::future::pending::<()>().await;
            Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(held.to_vec())))
        });
        let run = Run { config: Arc::new(Config::new(engine)), key };
        let request = Request::new(RequestBody::unread(Full::default()));
        let bytes = size_of_val(&run.run(Slot::reserved(reservation), service, request));
        // The task of each request is allocated and copied to the heap.
        assert!(bytes <= HANDLER_BYTES + 3072, "{bytes} bytes");
    }
}
