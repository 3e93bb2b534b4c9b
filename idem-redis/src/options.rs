//! [`RedisOptions`]: the settings of a store.

use std::time::Duration;

use idem_core::store::Span;

use crate::tls::Tls;

/// What to do about a server that evicts keys (any `maxmemory-policy` but `noeviction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthMode {
    /// `connect` fails as `Misconfigured`.
    ///
    /// If a server begins to evict later, *new reservations* fail as `Misconfigured`, without effect, until it stops.
    /// Owners can still renew, complete and release, and answers are still replayed.
    Strict,
    /// The store logs an event and goes on. A record that the server evicts is forgotten: its handler may run again.
    Warn,
}

/// The settings of a [`RedisStore`](crate::RedisStore).
///
/// ```
/// use std::time::Duration;
/// use idem_redis::{HealthMode, RedisOptions};
///
/// let options = RedisOptions::new()
///     .key_prefix("payments:")
///     .command_timeout(Duration::from_secs(1))
///     .health(HealthMode::Warn);
/// ```
///
/// Durations above ten years count as ten years.
///
/// # What differs from the client library's defaults
///
/// The store uses the crate `redis` 1.8 and sets everything itself that its safety depends on:
///
/// | | `redis` 1.8 | here | why |
/// |---|---|---|---|
/// | response timeout | 500 ms | [`command_timeout`](Self::command_timeout), 2 s | a fork or another client's slow command takes that long, and each timeout is an unknown outcome that has to be resolved |
/// | connection that stopped answering | kept: each command times out, and each is executed | replaced after [`stall_timeout`](Self::stall_timeout) | NATs and firewalls drop connections silently |
/// | connecting | 1 s; the connection manager tries six times, 100 ms to seconds apart | 2 s an attempt, without end, 10 ms to 1 s apart with jitter | a call waits for one attempt and gets its error; the link itself never gives up |
/// | closed connection | noticed by the next command, which fails | noticed at once | the next caller finds a new connection |
/// | `TCP_NODELAY` | off | on | a second small request would wait until the first is acknowledged |
/// | TCP keepalive | off | 15 s, then 3 probes 5 s apart | NATs keep an idle connection, and a vanished peer is noticed |
/// | commands in flight | unbounded | [`max_in_flight`](Self::max_in_flight) for each server | bounds memory; a longer queue would only time out |
/// | queue to the connection | 50 | `max_in_flight` | callers would wait a second time for a full queue |
/// | Cluster: retries | 16, 1.3 s apart or more; *resends* commands that were cut off | follows redirections and retries what the server refused, within `command_timeout`; resends nothing whose outcome is unknown | the engine resends with the operation's token and decides for how long |
/// | Cluster: node that stopped answering | asked again and again; the slots are not looked up | its connection is replaced and the slots are looked up | a replica takes over from a frozen master, and no redirection says so |
/// | Sentinel | asked once, at connect | followed: announcements, `READONLY`, broken connections, and a question every 5 s | a demoted master must not get writes |
/// | protocol | RESP2 | RESP2 | works through every proxy |
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub(crate) key_prefix: String,
    pub(crate) max_answer_bytes: usize,
    pub(crate) command_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) stall_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) health: HealthMode,
    pub(crate) health_interval: Duration,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) tls: Tls,
}

/// How many replicas must have an operation before it is acknowledged, and how long to wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replicas {
    pub(crate) count: usize,
    pub(crate) timeout: Duration,
}

impl RedisOptions {
    /// The defaults that each setter names.
    pub fn new() -> Self {
        Self {
            key_prefix: "idem:".to_owned(),
            max_answer_bytes: 16 << 20,
            command_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(2),
            max_in_flight: 4096,
            health: HealthMode::Strict,
            health_interval: Duration::from_secs(15),
            replicas: None,
            tls: Tls::default(),
        }
    }

    /// Sets the beginning of every record's name on the server; `idem:` by default.
    ///
    /// Stores with different prefixes share nothing. A prefix of more than six characters costs 16 bytes of the server's
    /// memory for each record. A prefix with `{..}` in it puts all records into one slot of a Cluster.
    #[must_use]
    pub fn key_prefix(mut self, key_prefix: impl Into<String>) -> Self {
        self.key_prefix = key_prefix.into();
        self
    }

    /// Sets the longest answer that the store keeps, in bytes; 16 MiB by default.
    ///
    /// Completing with a longer one fails as `TooLarge`, without effect.
    #[must_use]
    pub fn max_answer_bytes(mut self, max_answer_bytes: usize) -> Self {
        self.max_answer_bytes = max_answer_bytes;
        self
    }

    /// Sets how long one command may take; 2 seconds by default.
    ///
    /// The time includes the wait for one of the [`max_in_flight`](Self::max_in_flight) turns and for a connection.
    /// When it is over, the operation fails: as `Timeout` with an unknown outcome if the command was sent, and as
    /// `Unavailable` without effect if it was not.
    #[must_use]
    pub fn command_timeout(mut self, command_timeout: Duration) -> Self {
        self.command_timeout = command_timeout;
        self
    }

    /// Sets how long one attempt to connect may take, including TLS and login; 2 seconds by default.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Sets how long a connection may answer nothing, while commands on it time out, before it is replaced; 2 seconds by
    /// default.
    ///
    /// Also bounds the memory of commands whose callers left: see [`max_in_flight`](Self::max_in_flight). Choose seconds.
    #[must_use]
    pub fn stall_timeout(mut self, stall_timeout: Duration) -> Self {
        self.stall_timeout = stall_timeout;
        self
    }

    /// Sets how many commands may be in flight to one server, 1 to 2^20; 4,096 by default.
    ///
    /// Further commands wait, for as long as their [`command_timeout`](Self::command_timeout) allows.
    ///
    /// Only commands with a waiting caller count. A command whose caller has left (its future was dropped, or it timed
    /// out) is not counted. On a connection that stopped answering, such commands take about 500 bytes each until the
    /// connection is replaced, [`stall_timeout`](Self::stall_timeout) later at most.
    #[must_use]
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight.clamp(1, 1 << 20);
        self
    }

    /// Sets what to do about a server that evicts keys; [`HealthMode::Strict`] by default.
    #[must_use]
    pub fn health(mut self, health: HealthMode) -> Self {
        self.health = health;
        self
    }

    /// Sets how often the store checks the servers' health; 15 seconds on average by default.
    ///
    /// The pauses vary by a third, so that the clients of one server do not ask together.
    #[must_use]
    pub fn health_interval(mut self, health_interval: Duration) -> Self {
        self.health_interval = health_interval;
        self
    }

    /// Sets how many replicas must have an operation before it is acknowledged, and how long it waits for them; none by
    /// default.
    ///
    /// A reservation, a renewal and a completion are acknowledged after `count` replicas of the record's master have
    /// them in memory. If that takes longer than `timeout`, the operation fails as `Timeout` with an unknown outcome;
    /// resent, it waits for the replicas again. Release and abandon do not wait: losing one costs a lease and breaks no
    /// promise.
    ///
    /// `timeout` includes the round trip and the wait for operations that came before, so choose more than twice the
    /// usual lag of the replicas. An operation takes up to `timeout` longer than without replicas, and up to
    /// [`command_timeout`](Self::command_timeout) more while the connection that waits for them is being made.
    ///
    /// This is Redis's `WAIT`, with its limits. The master undoes nothing if replicas do not answer. A failover may
    /// promote a replica without the operation if there are more than `count`. A replica has the operation in memory,
    /// not on its disk. So the loss of an acknowledged operation becomes unlikely, not impossible.
    #[must_use]
    pub fn replicas(mut self, count: usize, timeout: Duration) -> Self {
        self.replicas = (count > 0).then_some(Replicas { count, timeout });
        self
    }

    /// Sets the certificates to trust (PEM), in place of the system's.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.roots = Some(pem.into());
        self
    }

    /// Sets the certificate to show to servers that ask for one: a PEM chain and its PEM key. None by default.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn client_certificate(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.client = Some((chain.into(), key.into()));
        self
    }

    /// Limits every duration to what clocks can count.
    pub(crate) fn bounded(mut self) -> Self {
        let durations = [
            &mut self.command_timeout,
            &mut self.connect_timeout,
            &mut self.stall_timeout,
            &mut self.health_interval,
        ];
        let replicas = self.replicas.as_mut().map(|replicas| &mut replicas.timeout);
        for duration in durations.into_iter().chain(replicas) {
            *duration = (*duration).min(Span::MAX.into());
        }
        self
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self::new()
    }
}
