//! The services that are compared, and how they are asked.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use idem_core::Engine;
use idem_http::{IdempotencyLayer, RequestBody, ResponseBody, Scope};
use idem_memory::MemoryStore;
use tower::{Layer, Service as _, ServiceExt};

use crate::load::Load;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    First,
    Replay,
    PassBy,
}

impl Load {
    /// A request whose handler runs.
    pub(super) fn first(&self, number: u64) -> Request<Full<Bytes>> {
        self.of(Kind::First, number)
    }

    pub(super) fn of(&self, kind: Kind, number: u64) -> Request<Full<Bytes>> {
        let key = self.key(number);
        let key = HeaderValue::from_bytes(&[b"\"", key.name(), b"\""].concat());
        let mut request = Request::new(Full::from(number.to_string()));
        *request.method_mut() = if kind == Kind::PassBy { Method::PUT } else { Method::POST };
        *request.uri_mut() = http::Uri::from_static("/payments");
        let key = key.unwrap_or_else(|error| panic!("a UUID is a header's value: {error}"));
        request.headers_mut().insert("idempotency-key", key);
        request
    }
}

/// A service that answers each number with its answer.
pub(super) trait Service {
    async fn call(&mut self, request: Request<Full<Bytes>>) -> Bytes;
}

/// Asks one request, and reads its answer.
pub(super) async fn ask(service: &mut impl Service, request: Request<Full<Bytes>>) -> Bytes {
    service.call(request).await
}

/// The handler alone. It reads its body, as a handler does.
#[derive(Clone, Copy)]
pub(super) struct Bare {
    load: Load,
}

impl Bare {
    pub(super) fn new(load: &Load) -> Self {
        Self { load: *load }
    }
}

async fn handle<B>(load: Load, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes, Error: std::fmt::Debug>,
{
    let body = request.into_body().collect().await;
    let body = body.unwrap_or_else(|error| panic!("a body that is there: {error:?}")).to_bytes();
    let number = std::str::from_utf8(&body).ok().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("a number, and not {body:?}"));
    Ok(Response::new(Full::new(load.answer(number))))
}

async fn read<B: Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> Bytes {
    let body = response.into_body().collect().await;
    body.unwrap_or_else(|error| panic!("a body that is there: {error:?}")).to_bytes()
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

impl Service for Bare {
    async fn call(&mut self, request: Request<Full<Bytes>>) -> Bytes {
        let load = self.load;
        let mut service = tower::service_fn(move |request| handle(load, request));
        read(infallible(service.call(request).await)).await
    }
}

/// Behind the layer.
pub(super) struct Guarded<S> {
    service: S,
}

/// The handler behind the layer.
pub(super) fn guarded(load: &Load) -> impl Service {
    let engine = Engine::builder(MemoryStore::new()).build();
    let engine = engine.unwrap_or_else(|error| panic!("the defaults are sound: {error}"));
    let load = *load;
    let handler = tower::service_fn(move |request: Request<RequestBody<Full<Bytes>>>| handle(load, request));
    let layer = IdempotencyLayer::builder(engine).scope(|_| Scope::principal("tenant-7")).build();
    Guarded { service: layer.layer(handler) }
}

impl<S> Service for Guarded<S>
where
    S: tower::Service<
            Request<Full<Bytes>>,
            Response = Response<ResponseBody<Full<Bytes>>>,
            Error = Infallible,
        >,
{
    async fn call(&mut self, request: Request<Full<Bytes>>) -> Bytes {
        let ready = infallible(self.service.ready().await);
        read(infallible(ready.call(request).await)).await
    }
}

/// Behind a cache as it is often written: look, run if there is nothing, keep the body. It reserves nothing, looks at no
/// payload, and stores neither status nor headers.
pub(super) struct Cached {
    handler: Bare,
    answers: Arc<DashMap<HeaderValue, Bytes>>,
}

impl Cached {
    pub(super) fn new(load: &Load) -> Self {
        Self { handler: Bare::new(load), answers: Arc::default() }
    }
}

impl Service for Cached {
    async fn call(&mut self, request: Request<Full<Bytes>>) -> Bytes {
        if request.method() != Method::POST {
            return self.handler.call(request).await;
        }
        let key = request.headers()["idempotency-key"].clone();
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        let answer = self.handler.call(request).await;
        self.answers.insert(key, answer.clone());
        answer
    }
}
