//! A layer for clients (feature `client`): one key for each logical request, kept across its retries.
//!
//! [`RetryLayer`] wraps a client. It gives each `POST` or `PATCH` without an `Idempotency-Key` a new one: a random UUID
//! as an RFC 8941 string. It sends the request again, with the same key and the same bytes, after an error of the
//! connection, after 409 with `Retry-After` (the first request is still running), and after 429, 500, 502, 503 and 504.
//!
//! Every other response goes to the caller. That includes 422: the key was used for another request, and no retry can
//! change that.
//!
//! ```
//! use std::time::Duration;
//! use idem_http::client::RetryLayer;
//! use tower::ServiceBuilder;
//!
//! # let http_client = tower::service_fn(|_: ()| async { Ok::<_, std::convert::Infallible>(()) });
//! let client = ServiceBuilder::new()
//!     .layer(RetryLayer::new().max_attempts(5).max_pause(Duration::from_secs(30)))
//!     .service(http_client); // for example the client of hyper-util
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use idem_core::backend::Backoff;
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

/// Gives each logical request one key, and keeps it across retries.
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it wraps a client"]
pub struct RetryLayer {
    policy: Policy,
}

/// A client that retries. [`RetryLayer`] makes it.
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    policy: Policy,
}

#[derive(Clone, Debug)]
struct Policy {
    key_header: HeaderName,
    max_attempts: u32,
    first_pause: Duration,
    max_pause: Duration,
}

impl RetryLayer {
    /// Five attempts, with pauses from 100 ms to 30 seconds.
    pub fn new() -> Self {
        Self {
            policy: Policy {
                key_header: HeaderName::from_static("idempotency-key"),
                max_attempts: 5,
                first_pause: Duration::from_millis(100),
                max_pause: Duration::from_secs(30),
            },
        }
    }

    /// Sets how often a request is sent at most. Zero counts as one. Default: 5.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.policy.max_attempts = attempts.max(1);
        self
    }

    /// Sets the first pause, for responses without `Retry-After`. It doubles with each attempt, with jitter. Default:
    /// 100 ms.
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.policy.first_pause = pause;
        self
    }

    /// Sets the longest pause, even if the server asks for a longer one. Default: 30 seconds.
    pub fn max_pause(mut self, pause: Duration) -> Self {
        self.policy.max_pause = pause;
        self
    }

    /// Sets the header that holds the key. Default: `Idempotency-Key`.
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.policy.key_header = name;
        self
    }
}

impl Default for RetryLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry { inner, policy: self.policy.clone() }
    }
}

impl<S, B, R> Service<Request<B>> for Retry<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: fmt::Debug + Send,
    B: Clone + Send + 'static,
    R: Send,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut service = std::mem::replace(&mut self.inner, clone);
        let policy = self.policy.clone();
        if !matches!(*request.method(), Method::POST | Method::PATCH) {
            return Box::pin(service.call(request));
        }
        request.headers_mut().entry(&policy.key_header).or_insert_with(new_key);
        Box::pin(async move {
            let mut backoff = Backoff::new(policy.first_pause, policy.max_pause);
            for _ in 1..policy.max_attempts {
                let mut pause = backoff.next_pause();
                if let Ok(response) = service.call(request.clone()).await {
                    match policy.pause_after(&response, pause) {
                        Some(asked) => pause = asked,
                        None => return Ok(response),
                    }
                }
                tokio::time::sleep(pause).await;
                std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
            }
            service.call(request).await
        })
    }
}

impl Policy {
    /// The pause before the request is sent again, `backoff` unless the server asks for another. `None` if the response
    /// is final.
    fn pause_after<R>(&self, response: &Response<R>, backoff: Duration) -> Option<Duration> {
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map(|seconds| Duration::from_secs(seconds).min(self.max_pause));
        match response.status() {
            // A conflict without `Retry-After` is final.
            StatusCode::CONFLICT => asked,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Some(asked.unwrap_or(backoff)),
            _ => None,
        }
    }
}

/// A random UUID (version 4) as an RFC 8941 string.
fn new_key() -> HeaderValue {
    let key = format!("\"{}\"", Uuid::new_v4());
    // Hexadecimal digits, dashes and quotes are visible ASCII.
    #[allow(clippy::expect_used, reason = "proved above")]
    HeaderValue::try_from(key).expect("a quoted UUID")
}
