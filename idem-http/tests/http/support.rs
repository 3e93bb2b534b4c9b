//! A service on a socket, a client, and what tests need of both.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use idem_conformance::Faulty;
use idem_core::{Engine, EngineBuilder};
use idem_http::{IdempotencyLayer, IdempotencyLayerBuilder, NeedsScope, Scope, Scoped};
use idem_memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt;

/// How the layer identifies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    Key,
    Fingerprint,
}

/// Makes two tests of each function, one for each branch.
macro_rules! on_both_branches {
    ($($name:ident),* $(,)?) => {
        mod with_a_key {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::Branch::Key).await;
            })*
        }

        mod by_fingerprint {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::support::Branch::Fingerprint).await;
            })*
        }
    };
}
pub(crate) use on_both_branches;

/// A store with faults that tests set.
pub(crate) fn store() -> Arc<Faulty> {
    Arc::new(Faulty::new(MemoryStore::new()))
}

/// A layer for requests with and without a key, scoped by the header `tenant`.
pub(crate) fn layer_of(settings: &EngineBuilder) -> IdempotencyLayerBuilder<Scoped> {
    let engine = |settings: &EngineBuilder| settings.clone().build().unwrap();
    scoped(IdempotencyLayer::builder(engine(settings)).fingerprint(engine(settings)))
}

pub(crate) fn scoped(builder: IdempotencyLayerBuilder<NeedsScope>) -> IdempotencyLayerBuilder<Scoped> {
    builder.scope(|parts| {
        Scope::principal(parts.headers.get("tenant").map_or(&b"no tenant"[..], |it| it.as_bytes()))
    })
}

pub(crate) fn layer() -> IdempotencyLayerBuilder<Scoped> {
    layer_of(&Engine::builder(store()))
}

/// How often a handler ran.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<AtomicUsize>);

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Counts one more, and returns its number.
    pub(crate) fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Holds handlers: each enters, and waits until the test releases it.
#[derive(Clone)]
pub(crate) struct Gate {
    entered: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }

    /// For the handler: enters, and waits for its release.
    pub(crate) async fn enter(&self) {
        self.entered.add_permits(1);
        self.released.acquire().await.unwrap().forget();
    }

    /// For the test: waits until one handler has entered.
    pub(crate) async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    pub(crate) fn release_one(&self) {
        self.released.add_permits(1);
    }

    /// Releases all handlers, now and from now on.
    pub(crate) fn open(&self) {
        self.released.add_permits(1_000_000);
    }
}

/// A router with a layer around one handler for all paths and methods.
pub(crate) struct App {
    pub(crate) router: Router,
    pub(crate) runs: Runs,
    pub(crate) gate: Gate,
}

impl App {
    /// The handler gets the number of its run, counted from 1. The gate does not hold it.
    pub(crate) fn new<F, Fut>(layer: IdempotencyLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let runs = Runs::default();
        let counted = runs.clone();
        let handler = move |request: Request| handler(counted.next(), request);
        Self { router: Router::new().fallback(handler).layer(layer), runs, gate: Gate::closed() }
    }

    /// The same, with a gate that each run enters before its handler is called.
    pub(crate) fn gated<F, Fut>(layer: IdempotencyLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let gate = Gate::closed();
        let held = gate.clone();
        let gated = move |run, request| {
            let (gate, handler) = (held.clone(), handler.clone());
            async move {
                gate.enter().await;
                handler(run, request).await
            }
        };
        Self { gate, ..Self::new(layer, gated) }
    }

    /// Sends a request without a connection, and reads the whole response.
    pub(crate) async fn ask(&self, request: http::Request<Full<Bytes>>) -> Answer {
        Answer::read(self.router.clone().oneshot(request.map(Body::new)).await.unwrap()).await
    }
}

/// A handler that responds with the number of its run.
pub(crate) async fn run_number(run: usize, _: Request) -> Response {
    text(201, format!("run {run}"))
}

/// A service on a free port of this machine.
pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) runs: Runs,
    /// Holds the handlers of a [gated](Self::gated) server.
    pub(crate) gate: Gate,
}

impl Server {
    /// Serves [`App::new`].
    pub(crate) async fn start<F, Fut>(layer: IdempotencyLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self::serve_app(App::new(layer, handler)).await
    }

    /// Serves [`App::gated`].
    pub(crate) async fn gated<F, Fut>(layer: IdempotencyLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        Self::serve_app(App::gated(layer, handler)).await
    }

    pub(crate) async fn serve_app(app: App) -> Self {
        Self { gate: app.gate, ..Self::serve(app.router, app.runs).await }
    }

    pub(crate) async fn serve(router: Router, runs: Runs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, runs, gate: Gate::closed() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request over a connection of its own, and reads the whole response.
    pub(crate) async fn send(&self, request: http::Request<Full<Bytes>>) -> Answer {
        self.send_body(request).await
    }

    pub(crate) async fn send_body<B>(&self, request: http::Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Unpin
            + 'static,
    {
        let mut connection = self.connect().await;
        Answer::read(connection.send_request(request).await.unwrap()).await
    }

    pub(crate) async fn connect<B>(&self) -> http1::SendRequest<B>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
            + Send
            + Unpin
            + 'static,
    {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// Sends `POST /things` with this key, or without a key and with this body.
    pub(crate) async fn post(&self, branch: Branch, name: &str) -> Answer {
        self.send(request(branch, name)).await
    }
}

/// `POST /things`, with the name as its body, and as its key if it has one.
pub(crate) fn request(branch: Branch, name: &str) -> http::Request<Full<Bytes>> {
    keyed(branch, name, name.to_owned())
}

/// The same with a different body.
pub(crate) fn keyed(branch: Branch, name: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    let request = http::Request::post("/things").header("host", "localhost");
    let request = match branch {
        Branch::Key => request.header("idempotency-key", format!("\"{name}\"")),
        Branch::Fingerprint => request,
    };
    request.body(Full::new(body.into())).unwrap()
}

/// A whole response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) async fn read<B>(response: http::Response<B>) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        Self { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.headers.get("idempotent-replayed").is_some_and(|value| value == "true")
    }

    /// The status, and the `code` of its problem document.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        (self.status.as_u16(), problem["code"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.problem(), (status, code.to_owned()));
    }

    #[track_caller]
    pub(crate) fn assert_first(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), &self.body[..]), (status, body.as_bytes()), "{self:?}");
        assert!(!self.is_replay(), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_replay(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), &self.body[..]), (status, body.as_bytes()), "{self:?}");
        assert!(self.is_replay(), "{self:?}");
    }
}

/// A response with a status and a text.
pub(crate) fn text(status: u16, body: impl Into<Body>) -> Response {
    http::Response::builder().status(status).body(body.into()).unwrap()
}

/// A body that the test sends frame by frame.
pub(crate) struct Frames {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>,
}

/// Sends the frames of a body. Dropping it ends the body.
pub(crate) type FrameSender = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

impl Frames {
    pub(crate) fn new() -> (FrameSender, Self) {
        let (sender, frames) = mpsc::unbounded_channel();
        (sender, Self { frames })
    }

    /// A body of these frames.
    pub(crate) fn of(frames: impl IntoIterator<Item = Result<Frame<Bytes>, &'static str>>) -> Self {
        let (sender, body) = Self::new();
        for frame in frames {
            sender.send(frame).unwrap();
        }
        body
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.frames.poll_recv(cx)
    }
}

#[allow(clippy::unnecessary_wraps, reason = "tests put it into lists of frames, some of which are errors")]
pub(crate) fn data(bytes: &'static str) -> Result<Frame<Bytes>, &'static str> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

impl Answer {
    pub(crate) fn into_response(self) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
