//! TLS.

use conformance_tests::server::free_port;

use super::servers::single::{Kind, Setup};
use super::servers::tls::Authority;
use super::*;

#[tokio::test]
async fn a_store_lives_over_tls() {
    let authority = Authority::new();
    let port = free_port();
    let _server = authority.secure(Setup::new(Kind::Redis), port, false).start();
    let options = Options::new().root_certificates(authority.pem("ca.pem"));
    let store = connect(&format!("rediss://localhost:{port}"), options).await;
    live(&store, "k").await;
    assert_eq!(store.health().await.servers[0].address, format!("localhost:{port}"));
}
