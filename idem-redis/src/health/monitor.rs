//! [`HealthMonitor`]: checks the servers' health at connect, at intervals, and when there is a new connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use idem_core::backend::Backoff;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::answers::Fields;
use super::problem::HealthProblem;
use super::report::{Health, Reported, ServerHealth};
use crate::link::Link;
use crate::options::{HealthMode, RedisOptions};

/// Checks the servers' health.
#[derive(Debug)]
pub(crate) struct HealthMonitor {
    mode: HealthMode,
    last: Mutex<LastCheck>,
    /// Whether new reservations are refused. Not under the lock, because every reservation reads it.
    refuses: AtomicBool,
    watch: OnceLock<AbortHandle>,
}

#[derive(Debug, Default)]
struct LastCheck {
    health: Option<Health>,
    /// The servers that evict, as far as is known.
    evicting: Vec<ServerHealth>,
}

impl Drop for HealthMonitor {
    /// The task owns a link, which it should not keep alive.
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get() {
            watch.abort();
        }
    }
}

impl HealthMonitor {
    /// Checks the servers once, fails if one cannot be used, and goes on checking in the background.
    pub(crate) async fn start(link: &Link, options: &RedisOptions) -> Result<Arc<Self>, HealthProblem> {
        let monitor = Arc::new(Self {
            mode: options.health,
            last: Mutex::default(),
            refuses: AtomicBool::new(false),
            watch: OnceLock::new(),
        });
        let health = monitor.check(link).await;
        if let Some(problem) = health.servers.iter().find_map(ServerHealth::unusable) {
            return Err(problem);
        }
        match health.servers.iter().find_map(ServerHealth::evicts) {
            Some(problem) if monitor.mode == HealthMode::Strict => Err(problem),
            _ => {
                let watch = watch(Arc::downgrade(&monitor), link.clone(), options.health_interval);
                let _ = monitor.watch.set(tokio::spawn(watch).abort_handle());
                Ok(monitor)
            }
        }
    }

    /// Checks the servers now.
    pub(crate) async fn check(&self, link: &Link) -> Health {
        let mut config = redis::cmd("CONFIG");
        config.arg("GET").arg(&["maxmemory-policy", "appendonly", "appendfsync", "save"]);
        let infos = link.each_master(&redis::cmd("INFO")).await;
        let mut configs = link.each_master(&config).await;
        let servers = infos.into_iter().map(|(address, info)| {
            let config = match configs.iter().position(|(other, _)| *other == address) {
                Some(at) => Fields::from_config(configs.swap_remove(at).1),
                None => Fields(Err("the server was gone when it was asked".to_owned())),
            };
            ServerHealth::read(address, &Fields::from_info(info), &config)
        });
        let health = Health { servers: servers.collect() };
        self.record(&health);
        health
    }

    /// Why new reservations are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<HealthProblem> {
        if !self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.evicting.iter().find_map(ServerHealth::evicts)
    }

    /// Remembers the servers' health, and logs what has changed.
    fn record(&self, health: &Health) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let LastCheck { health: last, evicting } = &mut *last;
        // A server that evicted and does not answer now still counts as one that evicts.
        let is_blind = health.servers.iter().all(|server| server.eviction.known().is_none());
        if (is_blind && self.refuses.load(Ordering::Relaxed)) || last.as_ref() == Some(health) {
            return;
        }
        let find = |address: &String| health.servers.iter().find(|server| server.address == *address);
        evicting.retain(|old| find(&old.address).is_some_and(|server| server.eviction.known().is_none()));
        evicting.extend(health.servers.iter().filter(|server| server.evicts().is_some()).cloned());
        self.refuses.store(!evicting.is_empty() && self.mode == HealthMode::Strict, Ordering::Relaxed);
        for server in &health.servers {
            let before =
                last.as_ref().and_then(|last| last.servers.iter().find(|old| old.address == server.address));
            if before != Some(server) {
                self.log(server);
            }
        }
        *last = Some(health.clone());
    }

    fn log(&self, server: &ServerHealth) {
        let ServerHealth { address, version, role, eviction, persistence, .. } = server;
        tracing::info!(name: "idem_redis.health.changed", server = %address, version = %version, role = %role,
            eviction = %eviction, persistence = %persistence, "the state of a server is known or has changed");
        if let Some(problem) = server.evicts().or_else(|| server.unusable()) {
            let refused = self.refuses.load(Ordering::Relaxed);
            tracing::warn!(name: "idem_redis.health.unfit", server = %address, refused, "{problem}");
        }
        if let Reported::Unknown(reason) = eviction {
            tracing::warn!(name: "idem_redis.health.unknown", server = %address, reason = %reason,
                "it is not known whether a server evicts keys");
        }
    }
}

/// Checks the servers until the monitor is dropped.
async fn watch(monitor: Weak<HealthMonitor>, link: Link, interval: Duration) {
    // A pause is between half of this and all of it, so `interval` on average.
    let longest = interval.mul_f64(4.0 / 3.0).max(Duration::from_millis(1));
    loop {
        tokio::select! {
            () = sleep(Backoff::new(longest, longest).next_pause()) => {}
            // The new connection may lead to another server.
            () = link.replaced() => {}
        }
        let Some(monitor) = monitor.upgrade() else { return };
        monitor.check(&link).await;
    }
}
