//! [`Doctor`]: who looks at the servers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::report::{Ailment, Fact, Health, ServerHealth};
use super::told::Told;
use crate::link::{Link, jitter};
use crate::options::{HealthMode, Options};

/// Looks at the servers: at once, and then now and then.
#[derive(Debug)]
pub(crate) struct Doctor {
    mode: HealthMode,
    last: Mutex<Seen>,
    /// Whether new reservations are refused. Kept apart, since every reservation asks.
    refuses: AtomicBool,
    watch: OnceLock<AbortHandle>,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Seen {
    health: Option<Health>,
    /// The servers that evict, as far as is known.
    evicting: Vec<ServerHealth>,
}

impl Drop for Doctor {
    /// The watch has the link, which it should not keep.
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get() {
            watch.abort();
        }
    }
}

impl Doctor {
    /// Looks at the servers, and refuses those that are unfit.
    pub(crate) async fn first(link: &Link, options: &Options) -> Result<Arc<Self>, Ailment> {
        let doctor = Arc::new(Self {
            mode: options.health,
            last: Mutex::default(),
            refuses: AtomicBool::new(false),
            watch: OnceLock::new(),
        });
        let health = doctor.look(link).await;
        if let Some(ailment) = health.servers.iter().find_map(ServerHealth::unfit) {
            return Err(ailment);
        }
        match health.servers.iter().find_map(ServerHealth::evicts) {
            Some(ailment) if doctor.mode == HealthMode::Strict => Err(ailment),
            _ => {
                let watch = watch(Arc::downgrade(&doctor), link.clone(), options.health_interval);
                let _ = doctor.watch.set(tokio::spawn(watch).abort_handle());
                Ok(doctor)
            }
        }
    }

    /// Looks now.
    pub(crate) async fn look(&self, link: &Link) -> Health {
        let mut config = redis::cmd("CONFIG");
        config.arg("GET").arg(&["maxmemory-policy", "appendonly", "appendfsync", "save"]);
        let infos = link.each_master(&redis::cmd("INFO")).await;
        let mut configs = link.each_master(&config).await;
        let servers = infos.into_iter().map(|(address, info)| {
            let config = match configs.iter().position(|(told, _)| *told == address) {
                Some(at) => Told::config(configs.swap_remove(at).1),
                None => Told(Err("the server was not there when it was asked".to_owned())),
            };
            ServerHealth::of(address, &Told::info(info), &config)
        });
        let health = Health { servers: servers.collect() };
        self.compare(&health);
        health
    }

    /// Why new reservations are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Ailment> {
        if !self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.evicting.iter().find_map(ServerHealth::evicts)
    }

    /// Notes what was seen, and says what has changed.
    fn compare(&self, health: &Health) {
        let mut seen = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { health: last, evicting } = &mut *seen;
        // Who does not answer at the moment has not become any better.
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
            if before == Some(server) {
                continue;
            }
            let ServerHealth { address, version, role, eviction, persistence, .. } = server;
            tracing::info!(name: "idem_redis.health.changed", server = %address, version = %version, role = %role,
                eviction = %eviction, persistence = %persistence, "the state of a server is known, or has changed");
            if let Some(ailment) = server.evicts().or_else(|| server.unfit()) {
                let refused = self.refuses.load(Ordering::Relaxed);
                tracing::warn!(name: "idem_redis.health.unfit", server = %address, refused, "{ailment}");
            }
            if let Fact::Unknown(reason) = eviction {
                tracing::warn!(name: "idem_redis.health.unknown", server = %address, reason = %reason,
                    "whether a server evicts keys cannot be found out");
            }
        }
        *last = Some(health.clone());
    }
}

async fn watch(doctor: Weak<Doctor>, link: Link, interval: Duration) {
    loop {
        // Half an interval more or less, or all clients ask at once; and when another server may be there.
        let pause = interval.mul_f64(0.75) + jitter(interval / 2);
        tokio::select! {
            () = sleep(pause.max(Duration::from_millis(1))) => {}
            () = link.replaced() => {}
        }
        let Some(doctor) = doctor.upgrade() else { return };
        doctor.look(&link).await;
    }
}
