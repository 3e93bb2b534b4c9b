//! [`Authority`]: certificates for a test, made by `openssl`.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::single::Setup;

/// A certificate authority that nobody else trusts, and a server's and a client's certificate of it.
pub(crate) struct Authority {
    directory: TempDir,
}

/// A certificate request with a new key.
const REQUEST: [&str; 6] = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        let own =
            ["-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.openssl(&[&REQUEST[..], &own].concat());
        authority.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        authority.issue("client", "extendedKeyUsage=clientAuth");
        authority
    }

    fn issue(&self, name: &str, extension: &str) {
        let [key, csr, ext, pem] = ["key", "csr", "ext", "pem"].map(|ending| format!("{name}.{ending}"));
        std::fs::write(self.path(&ext), extension).unwrap();
        let subject = format!("/CN={name}");
        self.openssl(&[&REQUEST[..], &["-subj", &subject, "-keyout", &key, "-out", &csr]].concat());
        let sign =
            "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2".split(' ').collect::<Vec<_>>();
        self.openssl(&[&sign[..], &["-in", &csr, "-extfile", &ext, "-out", &pem]].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(&self.directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn pem(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }

    /// A server that speaks TLS on this port, besides its own without. `clients`: whether they need a certificate.
    pub(crate) fn secure(&self, setup: Setup, port: u16, clients: bool) -> Setup {
        let path = |file| self.path(file).display().to_string();
        setup
            .set(&["tls-port", &port.to_string()])
            .set(&["tls-cert-file", &path("server.pem")])
            .set(&["tls-key-file", &path("server.key")])
            .set(&["tls-ca-cert-file", &path("ca.pem")])
            .set(&["tls-auth-clients", if clients { "yes" } else { "no" }])
    }
}
