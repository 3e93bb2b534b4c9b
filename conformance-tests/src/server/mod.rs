//! For backends that have a server: start it, stop it in every way there is, move its clock, and stand between it and
//! its clients.
//!
//! A test starts servers of its own, in a temporary directory and on free ports, so that no test sees another's:
//!
//! ```no_run
//! use std::process::Command;
//! use std::time::Duration;
//! use conformance_tests::server::{MovedClock, Process, Proxy, free_port};
//!
//! # async fn example() {
//! let directory = tempfile::tempdir().unwrap();
//! let clock = MovedClock::new(directory.path());
//! let port = free_port();
//!
//! let mut command = Command::new("redis-server");
//! command.args(["--port", &port.to_string(), "--save", ""]).current_dir(&directory);
//! clock.watch(&mut command);
//! let server = Process::start(&command, &directory.path().join("log"));
//! let proxy = Proxy::start(([127, 0, 0, 1], port).into()).await;
//! // .. a store connects to `proxy.address()` and reserves ..
//!
//! clock.forward(Duration::from_secs(60)); // its lease is over,
//! server.pause(); // the server says nothing any more,
//! proxy.cut(); // and its clients lose their connections.
//! # }
//! ```
//!
//! Linux only: the moved clock preloads a small C library, which the system's C compiler makes.

mod clock;
pub mod postgres;
mod process;
mod proxy;

pub use clock::MovedClock;
pub use process::{Process, free_port};
pub use proxy::Proxy;
