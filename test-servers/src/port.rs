//! [`free_port`]: ports for servers.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};

/// A port of the loopback interface that nothing listens on. No other test process on this machine gets it while this
/// one runs.
///
/// Two things can take a port between this call and the server's start: other tests, which the lock file keeps away,
/// and outgoing connections, which the system gives higher ports than these.
pub fn free_port() -> u16 {
    /// Lock files. The locks end with this process.
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    const PORTS: std::ops::Range<u64> = 10_240..32_000;

    let locks = std::env::temp_dir().join(format!("idem-test-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&locks).unwrap();
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let port = PORTS.start + random % (PORTS.end - PORTS.start);
        let lock =
            OpenOptions::new().create(true).write(true).truncate(false).open(locks.join(port.to_string()));
        let lock = lock.unwrap();
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            LOCKS.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_can_be_listened_on() {
        TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    }

    #[test]
    fn a_port_is_given_once() {
        let ports: std::collections::HashSet<_> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
