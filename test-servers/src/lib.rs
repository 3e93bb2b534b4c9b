//! Real servers for the tests and benches of this workspace.
//!
//! Each test starts its own servers, in a temporary directory and on free ports, so that no test sees another's:
//!
//! ```no_run
//! use std::time::Duration;
//! use test_servers::redis::{Kind, Setup};
//! use test_servers::{MovedClock, Proxy};
//!
//! # async fn example() {
//! let directory = tempfile::tempdir().unwrap();
//! let clock = MovedClock::new(directory.path());
//! let server = Setup::new(Kind::Redis).with_clock(&clock).start();
//! let proxy = Proxy::start(server.address()).await;
//! // A store connects to `proxy.address()` and reserves a key.
//!
//! clock.forward(Duration::from_secs(60)); // The lease ends.
//! server.process.pause(); // The server stops answering.
//! proxy.cut(); // Its clients lose their connections.
//! # }
//! ```
//!
//! | to | use |
//! |---|---|
//! | start a Redis or Valkey: one, a Sentinel group, a Cluster | [`redis`] |
//! | start a Postgres, with a pgbouncer in front | [`postgres`] |
//! | start any other program, and kill, stop or pause it | [`Process`], [`free_port`] |
//! | move a server's wall clock | [`MovedClock`] |
//! | delay, lose or cut what a server and its clients send | [`Proxy`] |
//! | make certificates | [`CertificateAuthority`] |
//! | wait for something that another process does | [`eventually`], [`blocking`] |
//!
//! Linux only: the moved clock preloads a small C library, which the system's C compiler builds. Whatever fails here
//! panics, because it fails the test.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic fails the test, as it should")]

mod certificates;
mod clock;
mod port;
pub mod postgres;
mod process;
mod proxy;
pub mod redis;
mod wait;

use std::path::PathBuf;

pub use certificates::CertificateAuthority;
pub use clock::MovedClock;
pub use port::free_port;
pub use process::Process;
pub use proxy::Proxy;
pub use wait::{blocking, eventually};

/// The directory of the running test program. What is built once for all tests is kept there.
fn build_directory() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.parent().unwrap().to_owned()
}
