//! The suite that every reservation store of idem must pass, whoever wrote it.
//!
//! A store promises what the documentation of [`ReservationStore`](idem_core::ReservationStore) says. This crate holds
//! it to that: one named case for each behaviour, on a fresh store each; random sequences against an oracle that shares
//! nothing with idem's own state machine; and concurrent runs, on real threads, whose every answer some order has to
//! explain.
//!
//! # Running it
//!
//! Tell it what your backend is in a [`Harness`], and give it the `main` of a test:
//!
//! ```no_run
//! // tests/conformance.rs, with `[[test]] name = "conformance"` and `harness = false` in Cargo.toml
//! use async_trait::async_trait;
//! use idem_conformance::{Clock, Harness, InProcess, Instance};
//! # use idem_conformance::Reference as MyStore;
//!
//! struct MyHarness;
//!
//! #[async_trait]
//! impl Harness for MyHarness {
//!     async fn fresh(&self) -> Box<dyn Instance> {
//!         Box::new(InProcess::new(MyStore::new()))
//!     }
//!
//!     fn clock(&self) -> Clock {
//!         Clock::Tokio
//!     }
//! }
//!
//! idem_conformance::main!(MyHarness);
//! ```
//!
//! `cargo test --test conformance` then runs every case, with the filters and flags of any test; nextest works too. A
//! case is named by its chapter, the number of its scenario and its guarantee:
//! `reserve::n03_another_owner_during_the_lease_is_in_flight`. What a backend cannot do is *ignored*, with the reason
//! shown, so declare more and ignore less: [`Instance::second_handle`] with a connection of its own, a [`Clock`] that
//! can be moved, and the hooks that each [`Ability`] names.
//!
//! # Time
//!
//! Leases run out in most cases, and timing decides none of them. [`Clock`] says how the store's clock is moved. Where
//! it cannot be, the suite really waits, and leaves out the cases that look at a record shortly *before* its time is
//! up: a slow machine would decide those. Everything random follows from a seed, which is the same in every run unless
//! `IDEM_CONFORMANCE_SEED` sets another.
//!
//! # What else is here
//!
//! - [`Faulty`] lets the calls of any store fail, get lost or come late; [`Counted`] counts them.
//! - [`Reference`] is the smallest correct store, and with other [`Rules`] an incorrect one. `WHO_CAUGHT_WHOM.md` lists
//!   which cases catch which of them.
//! - [`check`] runs a single [`Case`] from code.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod call;
mod caller;
mod case;
mod cases;
mod child;
mod context;
mod counted;
mod faults;
mod harness;
mod linearizability;
mod model;
mod oracle;
mod reference;
mod remote;
mod rng;
mod suite;
mod wire;

/// The span of a duration, for tests.
///
/// # Panics
///
/// If the duration is zero or above ten years.
#[track_caller]
pub fn span(duration: std::time::Duration) -> idem_core::store::Span {
    duration.try_into().unwrap_or_else(|error| panic!("{error}"))
}

pub use case::Case;
pub use counted::Counted;
pub use faults::{Fault, Faulty};
pub use harness::{Ability, Clock, Harness, InProcess, Instance};
pub use reference::{Reference, Rules, Step, TryStep};
pub use suite::{Verdict, cases, check, run};
