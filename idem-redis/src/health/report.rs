//! [`Health`]: what an operator is told.

use std::fmt;

use thiserror::Error;

/// Something about a server: known, or unknown for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is so.
    Known(T),
    /// It could not be found out, and why.
    Unknown(String),
}

impl<T> Fact<T> {
    /// What is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(fact) => Some(fact),
            Self::Unknown(_) => None,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Fact<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(fact) => fact.fmt(f),
            Self::Unknown(reason) => write!(f, "unknown ({reason})"),
        }
    }
}

/// What a server does so that its data outlives it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// Nothing: all records are gone with a restart.
    Nothing,
    /// Snapshots now and then: what came after the last one is gone with a crash.
    Snapshots,
    /// The append-only file. With `appendfsync everysec` a crash of the machine loses about a second, with `always`
    /// nothing that was acknowledged.
    AppendOnly {
        /// `appendfsync`.
        fsync: Fact<String>,
    },
}

impl fmt::Display for Persistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Snapshots => f.write_str("snapshots"),
            Self::AppendOnly { fsync } => write!(f, "append-only file, appendfsync {fsync}"),
        }
    }
}

/// The state of one server that keeps records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerHealth {
    /// Where it is.
    pub address: String,
    /// What it is, and its version: `Redis 7.0.15`.
    pub version: Fact<String>,
    /// `master` or `slave`, in the server's own word.
    pub role: Fact<String>,
    /// `maxmemory-policy`: records are safe with `noeviction` only.
    pub eviction: Fact<String>,
    /// What outlives a restart.
    pub persistence: Fact<Persistence>,
    /// How many replicas are connected to it.
    pub replicas: Fact<u64>,
}

/// The state of all servers that keep records: the one, or the masters of a Cluster.
///
/// Its `Display` is a line for each, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// In the order of their addresses.
    pub servers: Vec<ServerHealth>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            let ServerHealth { address, version, role, eviction, persistence, replicas } = server;
            writeln!(
                f,
                "{address}: {version}; role {role}; maxmemory-policy {eviction}; persistence: {persistence}; replicas: \
                 {replicas}"
            )?;
        }
        Ok(())
    }
}

/// What is wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Ailment {
    #[error("the server at {address} is {version}; Redis 7.0 or later, or Valkey, is needed")]
    Old { address: String, version: String },
    #[error("the server at {address} is a replica; give the address of its master, or of its Sentinels")]
    Replica { address: String },
    #[error(
        "the server at {address} evicts keys when its memory is full (maxmemory-policy {policy}), and a reservation that is \
         evicted may run twice; set maxmemory-policy to noeviction, or accept it with `Options::health(HealthMode::Warn)`"
    )]
    Evicts { address: String, policy: String },
}

impl ServerHealth {
    /// What makes it unfit from the beginning.
    pub(super) fn unfit(&self) -> Option<Ailment> {
        let address = self.address.clone();
        match (&self.version, &self.role) {
            (Fact::Known(version), _) if is_old(version) => {
                Some(Ailment::Old { address, version: version.clone() })
            }
            (_, Fact::Known(role)) if role != "master" => Some(Ailment::Replica { address }),
            _ => None,
        }
    }

    pub(super) fn evicts(&self) -> Option<Ailment> {
        let policy = self.eviction.known().filter(|policy| *policy != "noeviction")?;
        Some(Ailment::Evicts { address: self.address.clone(), policy: policy.clone() })
    }
}

impl<T> Fact<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(fact) => Fact::Known(change(fact)),
            Self::Unknown(reason) => Fact::Unknown(reason),
        }
    }

    pub(super) fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Known(_) => self,
            Self::Unknown(reason) => match other() {
                Self::Unknown(_) => Self::Unknown(reason),
                known @ Self::Known(_) => known,
            },
        }
    }
}

/// Older than 7.0: `SET .. NX GET` and scripts that may write to a full server are missing. Valkey began with 7.2.
fn is_old(version: &str) -> bool {
    version
        .strip_prefix("Redis ")
        .and_then(|version| version.split('.').next()?.parse::<u32>().ok())
        .is_some_and(|major| major < 7)
}
