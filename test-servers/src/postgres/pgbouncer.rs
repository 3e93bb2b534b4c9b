//! [`PgBouncer`]: a pooler in front of a server.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::programs::{as_its_user, hand_over};
use super::{Postgres, START_TIMEOUT, client, url};
use crate::{Process, free_port};

/// A pgbouncer in transaction mode.
pub struct PgBouncer {
    _directory: TempDir,
    port: u16,
    _process: Process,
}

impl PgBouncer {
    /// Starts one in front of a server.
    pub async fn start(server: &Postgres) -> Self {
        Self::start_before(server.address().port()).await
    }

    /// Starts one in front of a port of this machine.
    pub async fn start_before(server_port: u16) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = directory.path().join("pgbouncer.ini");
        let lines = [
            "[databases]".to_owned(),
            format!("* = host=127.0.0.1 port={server_port} user=idem"),
            "[pgbouncer]".to_owned(),
            format!("listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir ="),
            "pool_mode = transaction\nauth_type = any\nmax_client_conn = 1000\nserver_tls_sslmode = disable"
                .to_owned(),
            // Fewer than its clients have, so that clients share connections.
            "default_pool_size = 8".to_owned(),
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        hand_over(directory.path());
        let mut command = as_its_user(&pgbouncer());
        command.arg(&config);
        let log = directory.path().join("log");
        let mut process = Process::start(&command, &log);
        let began = Instant::now();
        while client(&url(port)).await.is_err() {
            let is_running = !process.has_ended() && began.elapsed() < START_TIMEOUT;
            assert!(is_running, "{}", fs::read_to_string(&log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { _directory: directory, port, _process: process }
    }

    /// The `postgres://` URL.
    pub fn url(&self) -> String {
        url(self.port)
    }
}

/// Debian keeps it outside of a user's path.
fn pgbouncer() -> PathBuf {
    let of_debian = PathBuf::from("/usr/sbin/pgbouncer");
    if of_debian.exists() { of_debian } else { PathBuf::from("pgbouncer") }
}
