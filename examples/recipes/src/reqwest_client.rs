//! A client that retries. Each payment has one key, which is made before the first try and sent with every try.
//!
//! A payment that must survive a crash of the client keeps its key in the client's own database, next to the payment.

use std::time::Duration;

use reqwest::{Client, StatusCode, header::RETRY_AFTER};
use uuid::Uuid;

/// The longest pause before the next try.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends a payment until the service answers, at most `tries` times.
///
/// It retries after a lost connection, a 409 with `Retry-After` (the first try still runs), a 429 and a 5xx. The
/// service makes the payment once, however often the request arrives. Every other response is the answer.
pub async fn pay(client: &Client, url: &str, amount: &str, tries: u32) -> Result<String, reqwest::Error> {
    let key = format!("\"{}\"", Uuid::new_v4());
    let mut pause = Duration::from_millis(100);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let request = client.post(url).header("idempotency-key", &key).body(amount.to_owned());
        let result = request.timeout(Duration::from_secs(10)).send().await;
        if let Ok(response) = &result {
            let asked =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            if let Some(seconds) = asked {
                pause = Duration::from_secs(seconds);
            }
            let is_retried = match response.status() {
                // A conflict without `Retry-After` stays one.
                StatusCode::CONFLICT => asked.is_some(),
                StatusCode::TOO_MANY_REQUESTS => true,
                status => status.is_server_error(),
            };
            if !is_retried || attempt == tries {
                return result?.error_for_status()?.text().await;
            }
        } else if attempt == tries {
            return result?.text().await;
        }
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::{Router, http::StatusCode, routing::post};
    use idem_core::Engine;
    use idem_http::{IdempotencyLayer, Scope};
    use idem_memory::MemoryStore;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_payment_that_fails_once_is_made_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pay", listener.local_addr().unwrap());
        let (runs, payments) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let handler = {
            let (runs, payments) = (Arc::clone(&runs), Arc::clone(&payments));
            async move |amount: String| {
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    return Err(StatusCode::SERVICE_UNAVAILABLE);
                }
                Ok(format!("payment {} of {amount}", payments.fetch_add(1, Ordering::SeqCst) + 1))
            }
        };
        let engine = Engine::builder(MemoryStore::new()).build().unwrap();
        let layer = IdempotencyLayer::builder(engine).scope(|_| Scope::principal("alice")).build();
        let app = Router::new().route("/pay", post(handler)).route_layer(layer);
        tokio::spawn(async move { axum::serve(listener, app).await });

        let client = Client::new();
        assert_eq!(pay(&client, &url, "100 EUR", 5).await.unwrap(), "payment 1 of 100 EUR");
        assert_eq!((runs.load(Ordering::SeqCst), payments.load(Ordering::SeqCst)), (2, 1));
    }
}
