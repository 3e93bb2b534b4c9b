//! Whether the servers are set up to keep records.
//!
//! Checked are the version, the role, `maxmemory-policy` (a server that evicts forgets reservations) and persistence (a
//! server without it loses everything in a restart). Each is [`Known`](Reported::Known), or [`Unknown`](Reported::Unknown)
//! with the reason: managed services forbid `CONFIG`, and an ACL may forbid `INFO` too. What is unknown never counts as
//! good.

mod answers;
mod monitor;
mod problem;
mod report;
#[cfg(test)]
mod tests;

pub(crate) use self::monitor::HealthMonitor;
pub(crate) use self::problem::HealthProblem;
pub use self::report::{Health, Persistence, Reported, ServerHealth};
