//! A unary gRPC method: a duplicate gets the same reply or the same status.
//!
//! A status such as `INVALID_ARGUMENT` is an answer too, and a duplicate must get it again. So the stored bytes hold a
//! reply or a status, and the method uses `execute_bytes`. A status that says "not now" is an error of the handler
//! instead. It frees the key.

use bytes::{BufMut, Bytes, BytesMut};
use idem_core::{Attempt, Engine, ExecuteError, Fingerprint, Key, Outcome};
use prost::Message;
use tonic::{Code, Request, Response, Status};

use self::proto::payments_server::Payments;
use self::proto::{PayReply, PayRequest};

/// Made from `proto/payments.proto` by tonic-prost-build.
#[allow(
    missing_docs,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
pub mod proto {
    include!("tonic_unary/shop.rs");
}

/// The service.
#[derive(Debug)]
pub struct Shop {
    engine: Engine,
}

impl Shop {
    /// A service on this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl Payments for Shop {
    async fn pay(&self, request: Request<PayRequest>) -> Result<Response<PayReply>, Status> {
        let key = request.metadata().get("idempotency-key").and_then(|key| key.to_str().ok());
        let key = key.ok_or_else(|| Status::invalid_argument("the metadata has no idempotency-key"))?;
        // A real service takes the principal from its authentication.
        let key = Key::new("alice", key).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let message = request.into_inner();
        let fingerprint = Fingerprint::from_parts([b"/shop.Payments/Pay", &message.encode_to_vec()[..]]);

        let handler = |attempt| async move {
            let result = pay(&attempt, message);
            match &result {
                Err(status) if is_transient(status.code()) => Err(status.clone()),
                _ => Ok(encode(&result)),
            }
        };
        match self.engine.execute_bytes(&key, &fingerprint, handler).await {
            Ok(Outcome::Executed(bytes) | Outcome::Replayed(bytes) | Outcome::Unprotected(bytes)) => {
                decode(&bytes)
            }
            // It ran, and the store may not have recorded it. The client still gets the answer.
            Ok(Outcome::Unrecorded { value, .. }) => decode(&value),
            Ok(Outcome::InFlight { .. } | Outcome::LeaseLost(_)) => {
                Err(Status::aborted("still running; try again"))
            }
            Ok(Outcome::FingerprintMismatch) => {
                Err(Status::invalid_argument("the idempotency key was used for another request"))
            }
            Ok(Outcome::LeaseExpired { .. } | Outcome::NotKept) => {
                Err(Status::data_loss("the request was executed; its answer is not known"))
            }
            Err(ExecuteError::Handler(status)) => Err(status),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

/// The handler: one payment, or the status that refuses it.
fn pay(attempt: &Attempt, request: PayRequest) -> Result<PayReply, Status> {
    match request.cents {
        ..=0 => Err(Status::invalid_argument(format!("nothing to pay (attempt {})", attempt.fence))),
        1_000_000.. => Err(Status::unavailable("the bank does not answer")),
        _ => Ok(PayReply { id: format!("payment-{}", attempt.fence) }),
    }
}

/// Whether the same request may succeed later. Such a status is not stored.
fn is_transient(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded)
}

/// The status code in four bytes, then the reply, or the status's message.
fn encode(result: &Result<PayReply, Status>) -> Bytes {
    let mut bytes = BytesMut::new();
    match result {
        Ok(reply) => {
            bytes.put_i32(Code::Ok.into());
            bytes.extend_from_slice(&reply.encode_to_vec());
        }
        Err(status) => {
            bytes.put_i32(status.code().into());
            bytes.extend_from_slice(status.message().as_bytes());
        }
    }
    bytes.freeze()
}

fn decode(bytes: &[u8]) -> Result<Response<PayReply>, Status> {
    let unreadable = || Status::data_loss("the stored answer is not readable");
    let (code, rest) = bytes.split_first_chunk().ok_or_else(unreadable)?;
    match Code::from_i32(i32::from_be_bytes(*code)) {
        Code::Ok => PayReply::decode(rest).map(Response::new).map_err(|_| unreadable()),
        code => Err(Status::new(code, String::from_utf8_lossy(rest))),
    }
}

#[cfg(test)]
mod tests {
    use idem_memory::MemoryStore;
    use tokio::net::TcpListener;
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;

    use super::proto::payments_client::PaymentsClient;
    use super::proto::payments_server::PaymentsServer;
    use super::*;

    fn request(key: &'static str, cents: i64) -> Request<PayRequest> {
        let mut request = Request::new(PayRequest { cents });
        request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
        request
    }

    #[tokio::test]
    async fn a_duplicate_gets_the_same_reply_or_the_same_status() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shop = Shop::new(Engine::builder(MemoryStore::new()).build().unwrap());
        let server = Server::builder().add_service(PaymentsServer::new(shop));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let mut client = PaymentsClient::connect(url).await.unwrap();

        let first = client.pay(request("k-1", 100)).await.unwrap().into_inner();
        let second = client.pay(request("k-1", 100)).await.unwrap().into_inner();
        assert_eq!(first, second);

        let refused = client.pay(request("k-2", 0)).await.unwrap_err();
        let again = client.pay(request("k-2", 0)).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (again.code(), again.message()));
        assert_eq!(refused.code(), Code::InvalidArgument);

        // Another request under a used key; and one that failed for now, whose key is free at once.
        assert_eq!(client.pay(request("k-1", 200)).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(client.pay(request("k-3", 1_000_000)).await.unwrap_err().code(), Code::Unavailable);
        assert!(client.pay(request("k-3", 100)).await.is_ok());
    }
}
