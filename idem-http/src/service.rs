//! [`Idempotency`]: the service that the layer makes, and its future.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::admission::admit;
use crate::body::{BoxError, RequestBody, ResponseBody};
use crate::config::{Config, WithoutKey};
use crate::request::bypass::bypasses;
use crate::request::key::KeyHeader;
use crate::step::slot::StepHandle;

/// A service that runs each request once. [`IdempotencyLayer`](crate::IdempotencyLayer) makes it.
#[derive(Clone)]
pub struct Idempotency<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S> Idempotency<S> {
    pub(crate) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config }
    }

    /// The key header of a request that this layer has to guard. `None` if the request bypasses the layer.
    fn guarded<B>(&self, request: &Request<B>) -> Option<KeyHeader> {
        // A request that this layer already guards further out would wait for itself.
        if StepHandle::is_of(request.extensions(), &self.config) || bypasses(request, &self.config.methods) {
            return None;
        }
        let header = KeyHeader::parse(request.headers(), &self.config.responder.wire.key_header);
        let runs_unguarded =
            header == KeyHeader::Missing && matches!(self.config.without_key, WithoutKey::Bypass);
        (!runs_unguarded).then_some(header)
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
        let Some(header) = self.guarded(&request) else {
            let future = self.inner.call(request.map(RequestBody::unread));
            return ResponseFuture { kind: Kind::Bypassed { future } };
        };
        // The service that was polled for readiness is the one to call.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let (parts, body) = request.into_parts();
        let future: Guarded<R, S::Error> =
            Box::pin(admit(Arc::clone(&self.config), ready, parts, body, header));
        ResponseFuture { kind: Kind::Guarded { future } }
    }
}

impl<S: fmt::Debug> fmt::Debug for Idempotency<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("inner", &self.inner).finish_non_exhaustive()
    }
}

pin_project! {
    /// The response future of [`Idempotency`](crate::Idempotency).
    ///
    /// Dropping it does not cancel a guarded handler, which runs in a task of its own.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<F, R, E> {
        #[pin]
        kind: Kind<F, R, E>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F, R, E> {
        Bypassed { #[pin] future: F },
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
            KindProjection::Bypassed { future } => {
                future.poll(cx).map_ok(|response| response.map(ResponseBody::unread))
            }
            KindProjection::Guarded { future } => future.as_mut().poll(cx),
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
    async fn the_future_of_a_guarded_request_does_not_hold_its_run() {
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let layer = IdempotencyLayer::builder(engine).unscoped().build();
        let handler = service_fn(|_: Request<RequestBody<Full<Bytes>>>| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new())))
        });
        let service = tower::Layer::layer(&layer, handler);
        let (parts, body) = Request::new(Full::new(Bytes::new())).into_parts();
        let guarded = admit(service.config, service.inner, parts, body, KeyHeader::Invalid);
        // The future is copied to the heap. At twice this size, the copy costs a replay as much as its lookup.
        assert!(size_of_val(&guarded) <= 2048, "{} bytes", size_of_val(&guarded));
    }
}
