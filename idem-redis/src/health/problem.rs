//! [`HealthProblem`]: why a server should not keep records.

use thiserror::Error;

use super::report::{Reported, ServerHealth};

/// Why a server should not keep records.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum HealthProblem {
    #[error("the server at {address} is {version}; use Redis 7.0 or later, or Valkey")]
    TooOld { address: String, version: String },
    #[error("the server at {address} is a replica; use the address of its master, or of its Sentinels")]
    Replica { address: String },
    #[error(
        "the server at {address} evicts keys when its memory is full (maxmemory-policy {policy}), and a request whose \
         record is evicted may run twice; set maxmemory-policy to noeviction, or accept this with \
         `RedisOptions::health(HealthMode::Warn)`"
    )]
    Evicts { address: String, policy: String },
}

impl ServerHealth {
    /// A problem that no setting of the store accepts.
    pub(super) fn unusable(&self) -> Option<HealthProblem> {
        let address = self.address.clone();
        match (&self.version, &self.role) {
            (Reported::Known(version), _) if is_too_old(version) => {
                Some(HealthProblem::TooOld { address, version: version.clone() })
            }
            (_, Reported::Known(role)) if role != "master" => Some(HealthProblem::Replica { address }),
            _ => None,
        }
    }

    /// Whether it evicts keys.
    pub(super) fn evicts(&self) -> Option<HealthProblem> {
        let policy = self.eviction.known().filter(|policy| *policy != "noeviction")?;
        Some(HealthProblem::Evicts { address: self.address.clone(), policy: policy.clone() })
    }
}

/// Redis before 7.0 has no `SET .. NX GET`, and no scripts that may write to a full server. Valkey began with 7.2.
fn is_too_old(version: &str) -> bool {
    version
        .strip_prefix("Redis ")
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok())
        .is_some_and(|major| major < 7)
}
