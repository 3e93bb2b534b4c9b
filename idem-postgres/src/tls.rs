//! TLS by rustls, with the system's roots.

use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connector that verifies the server's certificate, its name too.
pub(crate) fn with_system_roots() -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    // What of them cannot be read is no root; if none is left, every server is refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, Operation::Connect)
                .with_source(error)
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
