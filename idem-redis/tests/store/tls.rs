//! TLS.

use test_servers::redis::{Kind, Setup};
use test_servers::{CertificateAuthority, free_port};

use super::*;

#[tokio::test]
async fn a_store_works_over_tls() {
    let authority = CertificateAuthority::new();
    let port = free_port();
    let _server = Setup::new(Kind::Redis).with_tls(&authority, port, false).start();
    let options = RedisOptions::new().root_certificates(authority.pem("ca.pem"));
    let store = connect(&format!("rediss://localhost:{port}"), options).await;
    live(&store, "k").await;
    assert_eq!(store.health().await.servers[0].address, format!("localhost:{port}"));
}
