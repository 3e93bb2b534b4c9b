//! TLS by rustls with the system's root certificates.

use std::sync::Arc;

use idem_core::StoreError;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::setup_error;

/// A connector that verifies the server's certificate and its host name.
pub(crate) fn with_system_roots() -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    // Certificates that cannot be parsed are skipped. If none is left, every server is refused.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup_error)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
