//! [`Tls`]: which certificates to trust and to show, and the [`Connector`] that puts TLS around a stream.
//!
//! It uses rustls with `ring`, whatever the program has set up: a process-wide default provider, or two providers
//! compiled in, make no difference here.

use std::fmt;

pub(crate) use connector::Connector;

/// The settings of TLS.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// PEM; `None` means what the system trusts.
    #[cfg(feature = "rustls")]
    pub(crate) roots: Option<Vec<u8>>,
    /// PEM: the chain and its key.
    #[cfg(feature = "rustls")]
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

/// Hides the certificates: the key is a secret, and a chain is of no use to a reader.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Tls");
        #[cfg(feature = "rustls")]
        shown.field("own_roots", &self.roots.is_some()).field("client_certificate", &self.client.is_some());
        shown.finish()
    }
}

#[cfg(not(feature = "rustls"))]
mod connector {
    use std::io;

    use tokio::net::TcpStream;

    use super::Tls;

    /// There is none without the feature, and no address asks for one.
    #[derive(Clone)]
    pub(crate) enum Connector {}

    impl Connector {
        pub(crate) fn new(_: &Tls) -> Result<Self, String> {
            Err("this build has no TLS; enable the feature `rustls` of idem-redis".to_owned())
        }

        #[allow(clippy::unused_async, reason = "the same signature as with TLS")]
        pub(crate) async fn connect(&self, _: &str, _: TcpStream) -> io::Result<TcpStream> {
            match *self {}
        }
    }
}

#[cfg(feature = "rustls")]
mod connector {
    use std::io;
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::Tls;

    /// Puts TLS around a stream.
    #[derive(Clone)]
    pub(crate) struct Connector(TlsConnector);

    impl Connector {
        /// Reads the certificates. The error does not contain their bytes.
        pub(crate) fn new(tls: &Tls) -> Result<Self, String> {
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots(tls.roots.as_deref())?);
            let config = match &tls.client {
                None => config.with_no_client_auth(),
                Some((chain, key)) => {
                    let chain = CertificateDer::pem_slice_iter(chain)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|_| "the client's certificate is not PEM".to_owned())?;
                    let key = PrivateKeyDer::from_pem_slice(key)
                        .map_err(|_| "the client's key is not a PEM private key".to_owned())?;
                    config
                        .with_client_auth_cert(chain, key)
                        .map_err(|error| format!("the client's certificate and key do not match: {error}"))?
                }
            };
            Ok(Self(TlsConnector::from(Arc::new(config))))
        }

        /// Does the handshake with the server of this name. A certificate that is not accepted is `InvalidData`, as
        /// rustls reports it.
        pub(crate) async fn connect(
            &self,
            host: &str,
            stream: TcpStream,
        ) -> io::Result<TlsStream<TcpStream>> {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| {
                io::Error::new(io::ErrorKind::InvalidData, "no certificate can be for the server's host name")
            })?;
            self.0.connect(name, stream).await
        }
    }

    fn roots(pem: Option<&[u8]>) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if let Some(pem) = pem {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| "the root certificates are not PEM".to_owned())?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("a root certificate cannot be used: {error}"))?;
            }
        } else {
            // One unreadable certificate among the system's hundreds is no reason to trust none of them.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err("there is no root certificate to trust; set one with `root_certificates`".to_owned());
        }
        Ok(roots)
    }
}
