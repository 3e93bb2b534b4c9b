//! [`CertificateAuthority`]: certificates for a test, made by `openssl`.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A certificate authority that nothing else trusts (`ca.pem`), with a server's (`server.pem`, `server.key`) and a
/// client's (`client.pem`, `client.key`) certificate.
pub struct CertificateAuthority {
    directory: TempDir,
}

/// A certificate request with a new key.
const REQUEST: [&str; 6] = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

impl CertificateAuthority {
    /// Makes all of them. The server's certificate is for `localhost` and `127.0.0.1`.
    #[expect(clippy::new_without_default, reason = "it starts processes")]
    pub fn new() -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        let own =
            ["-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.openssl(&[&REQUEST[..], &own].concat());
        authority.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        authority.issue("client", "extendedKeyUsage=clientAuth");
        authority
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The content of one of its files.
    pub fn pem(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
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
}
