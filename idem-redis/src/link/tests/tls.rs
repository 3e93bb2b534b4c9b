//! TLS.

use test_servers::redis::{Kind, Setup};
use test_servers::{CertificateAuthority, free_port};

use super::*;

fn source(error: &StoreError) -> String {
    std::error::Error::source(error).unwrap().to_string()
}

#[tokio::test]
async fn a_server_whose_certificate_is_trusted_is_used() {
    let authority = CertificateAuthority::new();
    let port = free_port();
    let _server = Setup::new(Kind::Redis).with_tls(&authority, port, false).start();
    let trusting = RedisOptions::new().root_certificates(authority.pem("ca.pem"));
    for host in ["localhost", "127.0.0.1"] {
        let link = link(&format!("rediss://{host}:{port}"), &trusting).await;
        ask(&link, &["SET", "k", "v"]).await;
    }

    let error = try_link(&format!("rediss://localhost:{port}"), &RedisOptions::new()).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied), "{error:?}");
    assert!(source(&error).contains("certificate"), "{}", source(&error));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = CertificateAuthority::new();
    let port = free_port();
    // The certificate names one of the two addresses.
    let setup = Setup::new(Kind::Redis).set(&["bind", "127.0.0.1", "127.0.0.2"]);
    let _server = setup.with_tls(&authority, port, false).start();
    let trusting = RedisOptions::new().root_certificates(authority.pem("ca.pem"));
    let error = try_link(&format!("rediss://127.0.0.2:{port}"), &trusting).await.err().unwrap();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied), "{error:?}");
    assert!(source(&error).contains("certificate"), "{}", source(&error));
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let authority = CertificateAuthority::new();
    let port = free_port();
    let _server = Setup::new(Kind::Redis).with_tls(&authority, port, true).start();
    let url = format!("rediss://localhost:{port}");
    let trusting = RedisOptions::new().root_certificates(authority.pem("ca.pem"));
    let shown = trusting.clone().client_certificate(authority.pem("client.pem"), authority.pem("client.key"));
    ask(&link(&url, &shown).await, &["SET", "k", "v"]).await;
    try_link(&url, &trusting).await.err().unwrap();
    let text = format!("{shown:?}");
    assert!(!text.contains("BEGIN") && !text.contains("45, 45"), "{text}");
}

#[tokio::test]
async fn errors_about_unreadable_certificates_do_not_contain_their_bytes() {
    for options in [
        RedisOptions::new().root_certificates("s3cr3t"),
        RedisOptions::new()
            .root_certificates("-----BEGIN CERTIFICATE-----\ns3cr3t!\n-----END CERTIFICATE-----\n"),
        RedisOptions::new().client_certificate("s3cr3t", "s3cr3t"),
    ] {
        let error = try_link("rediss://localhost:1", &options).await.err().unwrap();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Misconfigured, Effect::NotApplied));
        assert!(!format!("{error:?} {}", source(&error)).contains("s3cr3t"));
    }
}
