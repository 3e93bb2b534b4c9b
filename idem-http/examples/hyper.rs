//! The layer around a plain hyper service, without a framework.
//!
//!     cargo run -p idem-http --example hyper
//!     curl -i -X POST -H 'Idempotency-Key: "8e03978e"' -d 100 http://127.0.0.1:3000/payments

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use idem_core::{Attempt, Engine};
use idem_http::{IdempotencyLayer, RequestBody};
use idem_memory::MemoryStore;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};

/// Pretends to pay.
async fn pay(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let attempt = request.extensions().get::<Attempt>().map_or(1, |attempt| attempt.number);
    // The layer has read the body of a guarded request, so reading it cannot fail. Other bodies can fail.
    let amount = request.into_body().collect().await.map_or(Bytes::new(), Collected::to_bytes);
    let paid = format!("paid {} in attempt {attempt}\n", String::from_utf8_lossy(&amount));
    Ok(Response::new(Full::from(paid)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(MemoryStore::new()).build()?;
    // All callers of this example are one party.
    let layer = IdempotencyLayer::builder(engine).unscoped().build();
    let service = ServiceBuilder::new().layer(layer).service(service_fn(pay));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
}
