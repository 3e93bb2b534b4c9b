//! A service on a socket, a client, and what a test holds of both.

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
use idem_http::{Chosen, IdempotencyLayer, LayerBuilder, Scope};
use idem_memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

/// Which of the layer's two branches a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    Key,
    Fingerprint,
}

/// Makes two tests of each function, one a branch.
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

/// A store that fails when it is told to.
pub(crate) fn store() -> Arc<Faulty> {
    Arc::new(Faulty::new(MemoryStore::new()))
}

/// A layer with the fingerprint branch, scoped by the header `tenant`.
pub(crate) fn layer_of(settings: &EngineBuilder) -> LayerBuilder<Chosen> {
    let engine = |settings: &EngineBuilder| settings.clone().build().unwrap();
    scoped(IdempotencyLayer::builder(engine(settings)).fingerprint(engine(settings)))
}

pub(crate) fn scoped(builder: LayerBuilder<idem_http::Unchosen>) -> LayerBuilder<Chosen> {
    builder.scope(|parts| {
        Scope::principal(parts.headers.get("tenant").map_or(&b"nobody in particular"[..], |it| it.as_bytes()))
    })
}

pub(crate) fn layer() -> LayerBuilder<Chosen> {
    layer_of(&Engine::builder(store()))
}

/// How often a handler ran.
#[derive(Clone, Default)]
pub(crate) struct Runs(Arc<AtomicUsize>);

impl Runs {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Counts one more, and says which it is.
    pub(crate) fn one_more(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Holds handlers: each says that it has come, and waits until it may go on.
#[derive(Clone)]
pub(crate) struct Gate {
    come: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Gate {
    pub(crate) fn closed() -> Self {
        Self { come: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    /// The handler's side.
    pub(crate) async fn pass(&self) {
        self.come.add_permits(1);
        self.go.acquire().await.unwrap().forget();
    }

    /// Until a handler has come.
    pub(crate) async fn somebody(&self) {
        self.come.acquire().await.unwrap().forget();
    }

    pub(crate) fn let_one_go(&self) {
        self.go.add_permits(1);
    }

    /// From now on nobody is held.
    pub(crate) fn open(&self) {
        self.go.add_permits(1_000_000);
    }
}

/// A service on a free port of this machine.
pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) runs: Runs,
}

impl Server {
    /// Serves one handler, `POST /things` and everything else alike, behind the layer. It is given the number of its
    /// run, counted from 1.
    pub(crate) async fn start<F, Fut>(layer: IdempotencyLayer, handler: F) -> Self
    where
        F: Fn(usize, Request) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let runs = Runs::default();
        let counted = runs.clone();
        let handler = move |request: Request| handler(counted.one_more(), request);
        Self::serve(Router::new().fallback(handler).layer(layer), runs).await
    }

    pub(crate) async fn serve(router: Router, runs: Runs) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, runs }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a request over a connection of its own, and reads the whole answer.
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

    /// Sends `POST /things` with this key, or without one where the body has to do.
    pub(crate) async fn post(&self, branch: Branch, name: &str) -> Answer {
        self.send(request(branch, name)).await
    }
}

/// `POST /things`: the name is the key on one branch and the body on both.
pub(crate) fn request(branch: Branch, name: &str) -> http::Request<Full<Bytes>> {
    keyed(branch, name, name.to_owned())
}

/// The same with another body.
pub(crate) fn keyed(branch: Branch, name: &str, body: impl Into<Bytes>) -> http::Request<Full<Bytes>> {
    let request = http::Request::post("/things").header("host", "localhost");
    let request = match branch {
        Branch::Key => request.header("idempotency-key", format!("\"{name}\"")),
        Branch::Fingerprint => request,
    };
    request.body(Full::new(body.into())).unwrap()
}

/// A whole answer.
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

/// A response of a status and a text.
pub(crate) fn text(status: u16, body: impl Into<Body>) -> Response {
    http::Response::builder().status(status).body(body.into()).unwrap()
}

/// A body that is sent frame by frame, as the test says.
pub(crate) struct Frames {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, &'static str>>,
}

/// Where the frames of a body come from. Dropped, it ends the body.
pub(crate) type FrameSender = mpsc::UnboundedSender<Result<Frame<Bytes>, &'static str>>;

impl Frames {
    pub(crate) fn new() -> (FrameSender, Self) {
        let (sender, frames) = mpsc::unbounded_channel();
        (sender, Self { frames })
    }

    /// A body of these frames, all there already.
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

#[allow(clippy::unnecessary_wraps, reason = "it stands in lists of frames, some of which are errors")]
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
