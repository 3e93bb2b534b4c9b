//! Those who ask: as many callers as duplicates, each with a connection of its own, all at the same instant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::failure::Failure;

/// How long a caller that was refused pauses. `Retry-After` is at least a second, and these know better how long the
/// handler takes.
const PAUSE: Duration = Duration::from_millis(2);

/// A caller that is still refused after so many tries counts as answered wrongly.
const TRIES: u32 = 10_000;

/// What is asked, by how many.
pub(crate) struct Plan {
    pub(crate) keys: Vec<String>,
    pub(crate) duplicates: u32,
}

/// What one caller was answered to one key in the end.
pub(crate) struct Asked {
    /// Which key it was.
    pub(crate) key: usize,
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) is_replay: bool,
    /// How many times the answer was that the request is in progress.
    pub(crate) refused: u32,
    /// How long its last request took.
    pub(crate) latency: Duration,
}

impl Plan {
    pub(crate) fn new(keys: u32, duplicates: u32) -> Self {
        Self { keys: (0..keys).map(|_| Uuid::new_v4().to_string()).collect(), duplicates }
    }
}

/// Holds the race, one key after the other.
pub(crate) async fn race(address: SocketAddr, plan: &Plan) -> Result<Vec<Asked>, Failure> {
    // It draws nothing unless it is on a terminal.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {elapsed}")?;
    let target = ProgressDrawTarget::stderr();
    let progress = ProgressBar::with_draw_target(Some(plan.keys.len() as u64), target).with_style(style);

    let at_once = Arc::new(Barrier::new(plan.duplicates as usize));
    let keys: Arc<[String]> = plan.keys.clone().into();
    let mut callers = JoinSet::new();
    for number in 0..plan.duplicates {
        let mut caller = Caller::connect(address).await?;
        let (at_once, keys, progress) = (Arc::clone(&at_once), Arc::clone(&keys), progress.clone());
        callers.spawn(async move {
            let mut asked = Vec::with_capacity(keys.len());
            for (index, key) in keys.iter().enumerate() {
                at_once.wait().await;
                // A failure counts as a wrong answer: a caller that left now would leave the others waiting.
                asked.push(caller.ask(index, key).await.unwrap_or_else(|_| Asked::nothing(index)));
                if number == 0 {
                    progress.inc(1);
                }
            }
            asked
        });
    }
    let mut all = Vec::with_capacity(plan.keys.len() * plan.duplicates as usize);
    while let Some(asked) = callers.join_next().await {
        all.extend(asked?);
    }
    progress.finish_and_clear();
    Ok(all)
}

struct Caller {
    connection: SendRequest<Full<Bytes>>,
}

impl Caller {
    async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { connection: sender })
    }

    /// Asks until it is no longer refused.
    async fn ask(&mut self, key: usize, name: &str) -> Result<Asked, Failure> {
        let mut refused = 0;
        loop {
            let begun = Instant::now();
            let request = Request::post("/db")
                .header("host", "localhost")
                .header("authorization", "Bearer race")
                .header("idempotency-key", format!("\"{name}\""))
                .body(Full::from(format!(r#"{{"name": "database {key}"}}"#)))?;
            self.connection.ready().await?;
            let (head, body) = self.connection.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let latency = begun.elapsed();
            let is_refused = head.status == StatusCode::CONFLICT && refused < TRIES;
            if !is_refused {
                let is_replay = head.headers.contains_key("idempotent-replayed");
                return Ok(Asked { key, status: head.status, body, is_replay, refused, latency });
            }
            refused += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Asked {
    /// No answer at all: a wrong one.
    fn nothing(key: usize) -> Self {
        Self {
            key,
            status: StatusCode::BAD_GATEWAY,
            body: Bytes::new(),
            is_replay: false,
            refused: 0,
            latency: Duration::ZERO,
        }
    }
}
