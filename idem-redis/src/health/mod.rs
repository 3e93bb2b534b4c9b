//! Whether the servers are set up to keep records.
//!
//! What is looked at: the version, the role, `maxmemory-policy` (a server that evicts forgets reservations), persistence
//! (one without loses everything with a restart). Each is [`Known`](Fact::Known) or [`Unknown`](Fact::Unknown) with the
//! reason: managed services forbid `CONFIG`, and an ACL may forbid `INFO` too. What is unknown is never called good.
//!
//! `report` is what an operator is told, `told` reads what servers answer, and `doctor` looks: at connect, now and then,
//! and when there is a new connection.

mod doctor;
mod report;
#[cfg(test)]
mod tests;
mod told;

pub(crate) use self::doctor::Doctor;
pub(crate) use self::report::Ailment;
pub use self::report::{Fact, Health, Persistence, ServerHealth};
