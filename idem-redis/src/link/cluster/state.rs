//! [`Cluster`]: which node serves which slot, and the links to the nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redis::ErrorKind;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::slots::SLOTS;
use super::view::View;
use crate::address::{Endpoint, Login};
use crate::error::Failure;
use crate::link::dial::Dialer;
use crate::link::single::{Finder, Single};
use crate::options::RedisOptions;

/// The link to a Cluster.
pub(crate) struct Cluster {
    pub(super) seeds: Vec<Endpoint>,
    pub(super) login: Login,
    pub(super) dialer: Dialer,
    pub(super) options: RedisOptions,
    map: RwLock<Arc<Map>>,
    /// When the slots were last looked up, successfully or not. The task that holds it is looking them up.
    pub(super) refreshed: Mutex<Option<Instant>>,
    /// How often a command went to another node than the map says, for slots with the same remainder.
    redirections: [AtomicU64; 256],
}

/// Which node serves which slot.
struct Map {
    /// For each slot the index of its master in `masters`, or `UNSERVED`.
    owners: Arc<[u16]>,
    masters: Arc<[(Endpoint, Single)]>,
    /// Nodes that are known from redirections only.
    others: HashMap<Endpoint, Single>,
    replicas: Arc<[Endpoint]>,
}

const UNSERVED: u16 = u16::MAX;

impl Cluster {
    pub(super) fn new(seeds: Vec<Endpoint>, login: Login, dialer: Dialer, options: &RedisOptions) -> Self {
        let map = Map {
            owners: vec![UNSERVED; SLOTS].into(),
            masters: Arc::from([]),
            others: HashMap::new(),
            replicas: Arc::from([]),
        };
        Self {
            seeds,
            login,
            dialer,
            options: options.clone(),
            map: RwLock::new(Arc::new(map)),
            refreshed: Mutex::new(None),
            redirections: [const { AtomicU64::new(0) }; 256],
        }
    }

    /// The host of a node that leaves it out: then it is the same for all nodes.
    pub(super) fn seed_host(&self) -> &str {
        self.seeds.first().map_or("", Endpoint::host)
    }

    /// The node that serves a slot, and the link to it.
    pub(crate) fn node(&self, slot: u16) -> Option<(Endpoint, Single)> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.masters.get(usize::from(map.owners[usize::from(slot)])).cloned()
    }

    /// The links to all masters.
    pub(crate) fn masters(&self) -> Arc<[(Endpoint, Single)]> {
        Arc::clone(&self.map().masters)
    }

    /// The nodes that are known: masters, then replicas.
    pub(super) fn known(&self) -> Vec<Endpoint> {
        let map = self.map();
        map.masters.iter().map(|(endpoint, _)| endpoint).chain(&*map.replicas).cloned().collect()
    }

    /// How often a command went to another node than the one that [`node`](Self::node) returns for the slot.
    pub(crate) fn redirections(&self, slot: u16) -> u64 {
        self.redirections[self.remainder(slot)].load(Ordering::Acquire)
    }

    /// The link to a node that a redirection named. Counts the redirection.
    pub(super) fn redirected(&self, slot: u16, endpoint: &Endpoint) -> Single {
        self.redirections[self.remainder(slot)].fetch_add(1, Ordering::AcqRel);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = map.link(endpoint) {
            return node.clone();
        }
        let node = self.new_link(endpoint);
        let mut others = map.others.clone();
        others.insert(endpoint.clone(), node.clone());
        *map = Arc::new(Map {
            owners: Arc::clone(&map.owners),
            masters: Arc::clone(&map.masters),
            others,
            replicas: Arc::clone(&map.replicas),
        });
        node
    }

    /// Takes over what a node says. Links to nodes that stay are kept.
    pub(super) fn apply(&self, view: &View) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut owners = vec![UNSERVED; SLOTS];
        let mut masters: Vec<(Endpoint, Single)> = Vec::new();
        for range in &view.ranges {
            let owner = masters.iter().position(|(known, _)| *known == range.master).unwrap_or_else(|| {
                let node = map.link(&range.master).cloned().unwrap_or_else(|| self.new_link(&range.master));
                masters.push((range.master.clone(), node));
                masters.len() - 1
            });
            let owner = u16::try_from(owner).unwrap_or(UNSERVED);
            owners[usize::from(range.first)..=usize::from(range.last)].fill(owner);
        }
        if masters.iter().map(|(endpoint, _)| endpoint).ne(map.masters.iter().map(|(endpoint, _)| endpoint)) {
            let masters: Vec<_> = masters.iter().map(|(endpoint, _)| endpoint.to_string()).collect();
            tracing::info!(name: "idem_redis.cluster.masters", masters = ?masters, "the Cluster's masters have changed");
        }
        *map = Arc::new(Map {
            owners: owners.into(),
            masters: masters.into(),
            // Commands that are on their way to one of the others have its link.
            others: HashMap::new(),
            replicas: view.replicas.clone().into(),
        });
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn remainder(&self, slot: u16) -> usize {
        usize::from(slot) % self.redirections.len()
    }

    fn new_link(&self, endpoint: &Endpoint) -> Single {
        let finder = Finder::Node { endpoint: endpoint.clone(), login: self.login.clone() };
        Single::lazy(finder, self.dialer.clone(), &self.options)
    }
}

impl Map {
    fn link(&self, endpoint: &Endpoint) -> Option<&Single> {
        let master = self.masters.iter().find(|(master, _)| master == endpoint).map(|(_, node)| node);
        master.or_else(|| self.others.get(endpoint))
    }
}

/// No node is known to serve the slot.
pub(super) fn unserved(slot: u16) -> Failure {
    Failure::not_applied((
        ErrorKind::ClusterConnectionNotFound,
        "no node serves the key's slot",
        slot.to_string(),
    ))
}
