//! [`Options`]: how a store talks to its servers, and what it asks of them.

use std::time::Duration;

use idem_core::store::Span;

use crate::tls::Tls;

/// What to do about a server that is not set up to keep records: one that evicts them, above all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthMode {
    /// `connect` fails as `Misconfigured` if a server evicts keys (any `maxmemory-policy` but `noeviction`). If one begins
    /// to do so later, *new reservations* fail as `Misconfigured`, without effect, until it no longer does; whoever holds
    /// a reservation can still renew, complete and release it, and answers are still replayed.
    Strict,
    /// An event is logged, and the store goes on. Records that the server evicts are forgotten: their handlers may run
    /// again.
    Warn,
}

/// How many replicas have to have an operation before it is acknowledged, and how long they may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many; those of the one server that the record is on.
    pub count: usize,
    /// How long an operation waits for them, once it has happened on its server. The way there and back is part of it, and
    /// so is the turn of those who came before: let it be more than twice as long as replicas usually lag.
    pub timeout: Duration,
}

/// The settings of a store.
///
/// # The client library's defaults, and ours
///
/// This crate talks to servers through `redis` 1.8, and sets everything itself that its safety rests on:
///
/// | | `redis` 1.8 | here | because |
/// |---|---|---|---|
/// | response timeout | 500 ms | 2 s | a fork or a slow command of others takes as long, and each timeout is an unknown outcome that has to be asked about again |
/// | a silent connection | kept for ever: each command times out, and each is executed | replaced after `silent_after` | NATs and firewalls forget connections without telling |
/// | connecting | 1 s; the connection manager tries six times, 100 ms to seconds apart | 2 s an attempt, without end, 10 ms to 1 s apart with jitter | a call waits for the next attempt only and is told its failure; the link itself never gives up |
/// | noticing a closed connection | with the next command, which fails | at once | the next caller finds a new connection |
/// | `TCP_NODELAY` | off | on | a second small request would wait for the acknowledgement of the first |
/// | TCP keepalive | off | 15 s, then 3 probes 5 s apart | an idle link stays known to NATs, and a vanished peer is noticed |
/// | commands under way | not bounded | `max_in_flight` for each server | memory, and a queue that is longer than the timeout helps nobody |
/// | queue to the connection | 50 | `max_in_flight` | a full queue would put callers to sleep a second time |
/// | Cluster: retries | 16, 1.3 s apart or more; also *sends again* what was cut off | redirections, and what the server refused, within `command_timeout`; nothing whose outcome is unknown | the engine sends again by the operation's token, and decides for how long |
/// | Cluster: a node that is silent | asked again and again; the slots are not looked up anew | its connection is replaced and the slots are looked up | a frozen master is replaced by a replica, and nobody else would tell |
/// | Sentinel | asks once, at connect; does not follow | follows announcements, `READONLY`, broken links, and asks every 5 s | a demoted master must not get writes |
/// | resends | none on one server | none | see above |
/// | protocol | RESP2 | RESP2 | works through every proxy |
///
/// ```
/// use std::time::Duration;
/// use idem_redis::{HealthMode, Options};
///
/// let options = Options::new().command_timeout(Duration::from_secs(1)).health(HealthMode::Warn);
/// assert_eq!(options.max_in_flight, 4096);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What the name of every key begins with. Stores with different prefixes know nothing of each other.
    pub key_prefix: String,
    /// The longest answer that is kept.
    pub max_answer_bytes: usize,
    /// How long one command may take, with the time in which it waits for a free place or for a connection. After that
    /// it fails as `Timeout` with an unknown outcome, or as `Unavailable` without effect if it was never sent.
    pub command_timeout: Duration,
    /// How long one attempt to connect may take, with TLS and login.
    pub connect_timeout: Duration,
    /// How long a connection may be silent while commands on it time out, before it is replaced.
    pub silent_after: Duration,
    /// How many commands may be under way to one server; further ones wait for as long as their own timeout allows.
    ///
    /// It counts callers who wait. A command whose caller has left (a future that was dropped, a timeout) goes on without
    /// its caller, and without being counted; on a connection that is silent these pile up until it is replaced, about 500
    /// bytes each, for `silent_after` at the most. So that should be seconds.
    pub max_in_flight: usize,
    /// What to do about a server that does not keep its records.
    pub health: HealthMode,
    /// How often the servers' health is looked at.
    pub health_interval: Duration,
    /// How many replicas acknowledge an operation; `None` does not wait for any.
    pub replicas: Option<Replicas>,
    /// How TLS is done, for the URLs that ask for it.
    pub(crate) tls: Tls,
}

impl Options {
    /// Keys that begin with `idem:`, for answers of at most 16 MiB; two seconds for a command, 4,096 of them under way;
    /// strict about eviction, and not waiting for replicas.
    pub fn new() -> Self {
        Self {
            key_prefix: "idem:".to_owned(),
            max_answer_bytes: 16 << 20,
            command_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            silent_after: Duration::from_secs(2),
            max_in_flight: 4096,
            health: HealthMode::Strict,
            health_interval: Duration::from_secs(15),
            replicas: None,
            tls: Tls::default(),
        }
    }

    /// The same options with another beginning of the keys.
    ///
    /// The default takes as much memory as fits beside the digest; with more than six characters a record takes 16 bytes
    /// more. A prefix with `{..}` in it puts all records into one slot of a Cluster.
    #[must_use]
    pub fn key_prefix(mut self, key_prefix: impl Into<String>) -> Self {
        self.key_prefix = key_prefix.into();
        self
    }

    /// The same options with another bound on the length of an answer.
    #[must_use]
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// The same options with another bound on the time of a command.
    #[must_use]
    pub fn command_timeout(mut self, command_timeout: Duration) -> Self {
        self.command_timeout = command_timeout;
        self
    }

    /// The same options with another bound on the time of an attempt to connect.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// The same options with another patience with silent connections.
    #[must_use]
    pub fn silent_after(mut self, silent_after: Duration) -> Self {
        self.silent_after = silent_after;
        self
    }

    /// The same options with another bound on commands under way: at least one, at most 2^20.
    #[must_use]
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight;
        self
    }

    /// The same options with another answer to servers that evict.
    #[must_use]
    pub fn health(mut self, health: HealthMode) -> Self {
        self.health = health;
        self
    }

    /// The same options with another interval between looks at the servers' health.
    #[must_use]
    pub fn health_interval(mut self, health_interval: Duration) -> Self {
        self.health_interval = health_interval;
        self
    }

    /// The same options, waiting for this many replicas.
    ///
    /// A reservation, a renewal and a completion are acknowledged only after `count` replicas of the record's server have
    /// said that they have it; if they do not within `timeout`, the operation fails as `Timeout` with an unknown outcome,
    /// and when it is sent again it asks the replicas again. So an operation takes `timeout` more than without replicas,
    /// and, when the connection that waits for them is made anew, `command_timeout` more, at the most. Release and abandon do not wait: a lost one costs a lease,
    /// and no promise.
    ///
    /// What this does *not* give (it is Redis's `WAIT`): nothing is undone on the master if the replicas do not answer;
    /// a failover may still promote a replica that has not got the operation, if there are more than `count`; a replica
    /// has it in memory, not on its disk. It makes the loss of an acknowledged operation unlikely, not impossible.
    #[must_use]
    pub fn replicas(mut self, count: usize, timeout: Duration) -> Self {
        self.replicas = (count > 0).then_some(Replicas { count, timeout });
        self
    }

    /// The same options within what clocks can count: "no limit" is ten years.
    pub(crate) fn bounded(mut self) -> Self {
        let replicas = self.replicas.as_mut().map(|replicas| &mut replicas.timeout);
        let spans = [
            &mut self.command_timeout,
            &mut self.connect_timeout,
            &mut self.silent_after,
            &mut self.health_interval,
        ];
        for span in spans.into_iter().chain(replicas) {
            *span = (*span).min(Span::MAX.as_duration());
        }
        self
    }

    /// The same options, trusting these certificates (PEM) instead of the system's.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.roots = Some(pem.into());
        self
    }

    /// The same options, showing this certificate (a PEM chain and its PEM key) to servers that ask for one.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn client_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((chain.into(), key.into()));
        self
    }

    /// `max_in_flight`, as far as it makes sense.
    pub(crate) fn places(&self) -> usize {
        self.max_in_flight.clamp(1, 1 << 20)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
