//! [`Tls`]: what is trusted, and what is shown. By rustls with `ring`, whatever else the program has set up: a process-wide
//! default, or two providers compiled in, make no difference here.

use std::fmt;

/// The settings of TLS.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM; `None` is what the system trusts.
    #[cfg(feature = "rustls")]
    pub(crate) roots: Option<Vec<u8>>,
    /// PEM: the chain and its key.
    #[cfg(feature = "rustls")]
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tls");
        // The key is a secret, and a chain is of no use to a reader.
        #[cfg(feature = "rustls")]
        shown.field("own_roots", &self.roots.is_some()).field("client_certificate", &self.client.is_some());
        shown.finish()
    }
}

#[cfg(feature = "rustls")]
pub(crate) use rustls_side::Connector;

/// Without the feature there is none, and no address asks for it.
#[cfg(not(feature = "rustls"))]
#[derive(Clone, Debug)]
pub(crate) enum Connector {}

#[cfg(not(feature = "rustls"))]
impl Tls {
    #[allow(clippy::unused_self, reason = "the same signature as with TLS")]
    pub(crate) fn connector(&self) -> Result<Connector, String> {
        Err("this build has no TLS".to_owned())
    }
}

#[cfg(feature = "rustls")]
mod rustls_side {
    use std::sync::Arc;

    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::Tls;

    /// Puts TLS around a stream.
    #[derive(Clone)]
    pub(crate) struct Connector(pub(crate) TlsConnector);

    impl Tls {
        /// Reads the certificates. What is wrong with them is said without their bytes.
        pub(crate) fn connector(&self) -> Result<Connector, String> {
            let mut roots = RootCertStore::empty();
            if let Some(pem) = &self.roots {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate =
                        certificate.map_err(|_| "the root certificates are not PEM".to_owned())?;
                    roots
                        .add(certificate)
                        .map_err(|error| format!("a root certificate cannot be used: {error}"))?;
                }
            } else {
                // One unreadable certificate among the system's hundreds is no reason to trust none of them.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            if roots.is_empty() {
                return Err(
                    "there is no root certificate to trust; name one with `root_certificates`".to_owned()
                );
            }
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots);
            let config = match &self.client {
                None => config.with_no_client_auth(),
                Some((chain, key)) => {
                    let chain = CertificateDer::pem_slice_iter(chain)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|_| "the client's certificate is not PEM".to_owned())?;
                    let key = PrivateKeyDer::from_pem_slice(key)
                        .map_err(|_| "the client's key is not a PEM private key".to_owned())?;
                    config
                        .with_client_auth_cert(chain, key)
                        .map_err(|error| format!("the client's certificate and key do not fit: {error}"))?
                }
            };
            Ok(Connector(TlsConnector::from(Arc::new(config))))
        }
    }
}
