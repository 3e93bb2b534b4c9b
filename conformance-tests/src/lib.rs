//! The suite that every reservation store of idem must pass.
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
mod rng;
mod suite;

pub use case::Case;
pub use counted::Counted;
pub use faults::{Fault, Faulty};
pub use harness::{Ability, Clock, Harness, Instance};
pub use reference::{Reference, Rules};
pub use suite::{Verdict, cases, check, run};
