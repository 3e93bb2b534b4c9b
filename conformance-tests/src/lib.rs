//! The conformance suite for reservation stores of idem: a store that passes it works with idem's engine.
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
//! `cargo test --test conformance` runs every case, with the filters and flags of any test; nextest works too.
//!
//! | task | use |
//! |---|---|
//! | describe a backend to the suite | [`Harness`], [`Instance`], [`Clock`] |
//! | ignore fewer cases | [`Instance::second_handle`] with its own connection, a [`Clock`] that moves, [`Ability`] |
//! | run the suite over several setups in one program | [`main!`] with a name for each |
//! | run one [`Case`] from code | [`check`], [`cases`] |
//! | call a store in other tests, without writing requests and tokens | [`Caller`] |
//! | lose, delay or refuse the calls of any store | [`Faulty`], [`Fault`] |
//! | count the calls of any store | [`Counted`] |
//! | check your tests against a small correct store, or one with a bug | [`Reference`], [`Rules`] |
//!
//! # Cases
//!
//! The contract of a store is the documentation of [`ReservationStore`](idem_core::ReservationStore). The suite checks
//! it with one case for each guarantee, each on a fresh store; with random sequences of operations, compared with a model
//! that shares no code with idem's state machine; and with concurrent runs on several threads, for whose answers it
//! searches a sequential order.
//!
//! The name of a case is its chapter, the number of its scenario and the guarantee:
//! `reserve::n03_another_owner_during_the_lease_is_in_flight`. A case that needs something the backend lacks is
//! *ignored*, with the reason.
//!
//! # Time
//!
//! Most cases let a lease end. No case depends on the speed of the machine. [`Clock`] says how the store's clock
//! moves. If it cannot be moved, the suite waits for short leases to end, and ignores the cases that look at a record
//! shortly *before* its time is up. Everything random follows from a seed, which is the same in every run unless
//! `IDEM_CONFORMANCE_SEED` sets another.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod caller;
mod case;
mod cases;
mod harness;
mod linearizability;
mod model;
mod oracle;
mod process;
mod rng;
mod runner;
mod stores;
mod values;

pub use caller::{Caller, Granted, Snapshot};
pub use case::Case;
pub use harness::{Ability, Clock, Harness, InProcess, Instance};
pub use runner::{Verdict, cases, check, run};
pub use stores::{Counted, Fault, Faulty, Reference, Rules, Step, TryStep};
pub use values::span;
