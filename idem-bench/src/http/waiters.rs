//! How long after its handler's end a waiting duplicate is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use idem_core::{Engine, InFlightPolicy};
use idem_http::{IdempotencyLayer, RequestBody, Scope};
use idem_memory::MemoryStore;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};

use crate::report::{Figure, Target};
use crate::rounds::{Spread, nanos};

/// How many wait.
const WAITERS: usize = 100;

pub(super) fn figure(rounds: usize, runtime: &Runtime) -> Figure {
    let took = (0..rounds).map(|_| runtime.block_on(last_of_the_waiters())).collect();
    Figure {
        id: "h4",
        what: format!("the last of {WAITERS} waiting duplicates is answered after the handler's end"),
        unit: "ns",
        target: Target::AtMost(1e6),
        value: Spread::of(took),
        comparisons: Vec::new(),
        flush: None,
    }
}

async fn last_of_the_waiters() -> f64 {
    let waiting = InFlightPolicy::Wait { timeout: Duration::from_secs(60) };
    let engine = Engine::builder(MemoryStore::new()).in_flight(waiting).build();
    let engine = engine.unwrap_or_else(|error| panic!("the defaults are sound: {error}"));
    let layer = IdempotencyLayer::builder(engine).scope(|_| Scope::principal("tenant-7")).build();

    let (go, ended) = (Arc::new(Semaphore::new(0)), oneshot::channel());
    let (held, end) = (Arc::clone(&go), Arc::new(Mutex::new(Some(ended.0))));
    let handler = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let (held, end) = (Arc::clone(&held), Arc::clone(&end));
        async move {
            drop(held.acquire().await);
            if let Some(end) = end.lock().await.take() {
                // Its receiver is there until the end of the round.
                let _ = end.send(Instant::now());
            }
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"paid"))))
        }
    });
    let service = layer.layer(handler);
    let mut asking = JoinSet::new();
    for _ in 0..=WAITERS {
        let mut request = Request::post("/payments").body(Full::new(Bytes::new())).unwrap_or_default();
        request.headers_mut().insert("idempotency-key", http::HeaderValue::from_static("hot"));
        asking.spawn(service.clone().oneshot(request));
    }
    // On one thread each of them has come to where it waits once all had their turn.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    go.add_permits(1);
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap_or_else(|error| panic!("a caller panicked: {error}"));
        assert_eq!(answer.map(|answer| answer.status().as_u16()), Ok(200));
    }
    let last = Instant::now();
    ended.1.await.map_or(f64::NAN, |ended| nanos(last - ended))
}
