//! [`Health`]: what an operator sees.

use std::fmt;

/// Something that a server was asked about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported<T> {
    /// The server's answer.
    Known(T),
    /// Why there is no answer.
    Unknown(String),
}

impl<T> Reported<T> {
    /// The answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Reported<U> {
        match self {
            Self::Known(value) => Reported::Known(change(value)),
            Self::Unknown(reason) => Reported::Unknown(reason),
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

impl<T: fmt::Display> fmt::Display for Reported<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(value) => value.fmt(f),
            Self::Unknown(reason) => write!(f, "unknown ({reason})"),
        }
    }
}

/// How a server keeps its data across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Persistence {
    /// Not at all: a restart loses all records.
    Nothing,
    /// By snapshots: a crash loses what came after the last one.
    Snapshots,
    /// By an append-only file. With `appendfsync everysec` a crash of the machine loses about a second, with `always`
    /// nothing that was acknowledged.
    AppendOnly {
        /// `appendfsync`.
        fsync: Reported<String>,
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
    /// The server's address.
    pub address: String,
    /// The product and its version: `Redis 7.0.15`.
    pub version: Reported<String>,
    /// `master` or `slave`, the server's own words.
    pub role: Reported<String>,
    /// `maxmemory-policy`. Only `noeviction` keeps records safe.
    pub eviction: Reported<String>,
    /// What survives a restart.
    pub persistence: Reported<Persistence>,
    /// How many replicas are connected to it.
    pub replicas: Reported<u64>,
}

/// The state of all servers that keep records: the one server, or the masters of a Cluster.
///
/// `Display` writes a line for each server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Sorted by address.
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
