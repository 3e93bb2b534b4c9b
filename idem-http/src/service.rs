//! [`Idempotency`]: the service that the layer makes, and its future.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::admit;
use crate::body::{BoxError, RequestBody, ResponseBody};
use crate::key::{self, Sent};
use crate::layer::{Config, WithoutKey};
use crate::pass::passes_by;
use crate::step::Handle;

/// A service whose requests run once each. Made by [`IdempotencyLayer`](crate::IdempotencyLayer).
#[derive(Clone)]
pub struct Idempotency<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Idempotency<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }
}

impl<S, B, R> Service<Request<B>> for Idempotency<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Error: Into<BoxError>> + Send + 'static,
    R: Body<Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A request that this very layer guards already, further out, would wait for itself.
        let is_guarded = Handle::is_of(request.extensions(), &self.config);
        if !is_guarded && !passes_by(&request, &self.config.methods) {
            let sent = key::read(request.headers(), &self.config.dialect.key_header);
            if sent != Sent::Nothing || !matches!(self.config.without_key, WithoutKey::PassBy) {
                // The service that was asked whether it is ready is the one that is called.
                let clone = self.inner.clone();
                let ready = std::mem::replace(&mut self.inner, clone);
                let config = Arc::clone(&self.config);
                let (parts, body) = request.into_parts();
                let future: Guarded<R, S::Error> = Box::pin(admit::guard(config, ready, parts, body, sent));
                return ResponseFuture { kind: Kind::Guarded { future } };
            }
        }
        let future = self.inner.call(request.map(RequestBody::passed));
        ResponseFuture { kind: Kind::Passed { future } }
    }
}

impl<S: fmt::Debug> fmt::Debug for Idempotency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("inner", &self.inner).field("config", &self.config).finish()
    }
}

pin_project! {
    /// The future of [`Idempotency`]. Dropping it cancels no handler that runs under a key.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        kind: Kind<F, R, E>,
    }
}

pin_project! {
    #[project = Projected]
    enum Kind<F, R, E> {
        Passed { #[pin] future: F },
        Guarded { future: Guarded<R, E> },
    }
}

type Guarded<R, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<R>>, E>> + Send>>;

impl<F, R, E> Future for ResponseFuture<F, R, E>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            Projected::Passed { future } => {
                future.poll(cx).map_ok(|response| response.map(ResponseBody::passed))
            }
            Projected::Guarded { future } => future.as_mut().poll(cx),
        }
    }
}

impl<F, R, E> fmt::Debug for ResponseFuture<F, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use idem_core::Engine;
    use idem_memory::MemoryStore;
    use tower::service_fn;

    use super::*;
    use crate::IdempotencyLayer;

    #[tokio::test]
    async fn a_guarded_request_does_not_carry_its_run_about() {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let layer = IdempotencyLayer::builder(engine).unscoped().build();
        let handler = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
        });
        let service = tower::Layer::layer(&layer, handler);
        let (parts, body) = Request::new(Full::new(Bytes::new())).into_parts();
        let guarded = admit::guard(service.config, service.inner, parts, body, Sent::Invalid);
        // It is copied to where it is polled: twice this costs a replay as much as its lookup.
        assert!(size_of_val(&guarded) <= 2048, "{} bytes", size_of_val(&guarded));
    }
}
