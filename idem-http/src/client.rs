//! For those who call (feature `client`): one key for every *logical* request, kept across its retries.
//!
//! [`RetryLayer`] goes around a client. It gives a `POST` or `PATCH` that has no `Idempotency-Key` a new one (a random UUID,
//! as an RFC 8941 string) and sends the request again, with the same key and the same bytes, until it has an answer:
//!
//! - after an error of the connection, since nobody knows how far the request came;
//! - after 409 with `Retry-After` (the first one is still running), 429, 500, 502, 503 and 504.
//!
//! Everything else is an answer. Above all 422 is: the key was used for another payload, and asking again cannot help.
//!
//! ```
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use idem_http::client::RetryLayer;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), std::convert::Infallible> {
//! # let http_client = service_fn(|request: Request<Full<Bytes>>| async move {
//! #     assert!(request.headers().contains_key("idempotency-key"));
//! #     Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//! # });
//! let client = ServiceBuilder::new()
//!     .layer(RetryLayer::new().attempts(5).pause_at_most(Duration::from_secs(30)))
//!     .service(http_client); // hyper-util's, say
//! let request = Request::post("http://localhost/payments").body(Full::from("100 EUR")).unwrap();
//! let response = client.oneshot(request).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

/// Gives every logical request one key, and keeps it across retries.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    policy: Policy,
}

/// A client that retries. Made by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S> {
    inner: S,
    policy: Policy,
}

#[derive(Clone, Debug)]
struct Policy {
    key_header: HeaderName,
    attempts: u32,
    first_pause: Duration,
    pause_at_most: Duration,
}

impl RetryLayer {
    /// Five attempts, the pauses between them from 100 ms up to 30 seconds.
    pub fn new() -> Self {
        Self {
            policy: Policy {
                key_header: HeaderName::from_static("idempotency-key"),
                attempts: 5,
                first_pause: Duration::from_millis(100),
                pause_at_most: Duration::from_secs(30),
            },
        }
    }

    /// How often a request is sent at the most; at least once.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.policy.attempts = attempts.max(1);
        self
    }

    /// The first pause, where the server asks for none. Doubled for each attempt after that, with jitter.
    #[must_use]
    pub fn first_pause(mut self, pause: Duration) -> Self {
        self.policy.first_pause = pause;
        self
    }

    /// The longest pause, also if the server asks for a longer one.
    #[must_use]
    pub fn pause_at_most(mut self, pause: Duration) -> Self {
        self.policy.pause_at_most = pause;
        self
    }

    /// The header with the key. Default: `Idempotency-Key`.
    #[must_use]
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
            for attempt in 1..policy.attempts {
                let pause = match service.call(request.clone()).await {
                    Ok(response) => match policy.pause_after(&response, attempt) {
                        Some(pause) => pause,
                        None => return Ok(response),
                    },
                    Err(_) => policy.pause(attempt),
                };
                tokio::time::sleep(pause).await;
                std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
            }
            service.call(request).await
        })
    }
}

impl Policy {
    /// How long to wait before the request is sent again; `None` if this is its answer.
    fn pause_after<R>(&self, response: &Response<R>, attempt: u32) -> Option<Duration> {
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = asked.map(|seconds| Duration::from_secs(seconds).min(self.pause_at_most));
        match response.status() {
            // Without `Retry-After` it is a conflict that stays one.
            StatusCode::CONFLICT => asked,
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Some(asked.unwrap_or_else(|| self.pause(attempt))),
            _ => None,
        }
    }

    /// The pause that this client chooses: half of it fixed, half by chance, so that clients that failed together do not
    /// come back together.
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
        let half = doubled.min(self.pause_at_most) / 2;
        // The first byte of a UUID of version 4 is random.
        half + half.mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 255.0)
    }
}

/// A random UUID (version 4) as an RFC 8941 string.
fn new_key() -> HeaderValue {
    let key = format!("\"{}\"", Uuid::new_v4());
    // Hexadecimal digits, dashes and quotes are all visible ASCII.
    #[allow(clippy::expect_used, reason = "proved above")]
    HeaderValue::try_from(key).expect("a quoted UUID")
}
