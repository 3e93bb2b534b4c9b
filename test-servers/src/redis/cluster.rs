//! [`Cluster`]: three masters, each with a replica.

use redis::Value;

use super::{Kind, Server, Setup};
use crate::{eventually, free_port};

/// A Cluster of six nodes.
pub struct Cluster {
    /// Three masters, then the replica of each, in the same order.
    pub nodes: Vec<Server>,
}

/// The first and last slots of the three masters.
pub const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

impl Cluster {
    /// Starts it, and returns when every node reports a healthy Cluster. A node that is silent for a second is replaced.
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, |setup| setup)
    }

    /// Starts it with more settings.
    pub fn with(kind: Kind, settings: impl Fn(Setup) -> Setup) -> Self {
        let ports: Vec<(u16, u16)> = (0..6).map(|_| (free_port(), free_port())).collect();
        let launch = |node: usize| {
            let (port, bus) = ports[node];
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("nodes.conf"), nodes_file(node, &ports)).unwrap();
            settings(Setup::new(kind))
                .set(&["cluster-enabled", "yes"])
                .set(&["cluster-port", &bus.to_string()])
                .set(&["cluster-node-timeout", "1000"])
                .launch_on(port, directory)
        };
        let mut cluster = Self { nodes: (0..6).map(launch).collect() };
        cluster.nodes.iter_mut().for_each(Server::wait_until_ready);
        cluster.wait_until_healthy();
        cluster
    }

    /// The URL that names the first master and the last replica.
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[5].port())
    }

    /// The node's identity in the Cluster.
    pub fn id(node: usize) -> String {
        format!("{node:x}").repeat(40)
    }

    /// Blocks until the replica of this master has taken its place.
    pub fn wait_until_replaced(&self, master: usize) {
        let slot = SLOTS[master].0.to_string();
        let replica = self.nodes[master + 3].port();
        let others = (0..6).filter(|node| *node != master);
        for node in others {
            eventually("the replica is promoted", || {
                let reply = self.nodes[node].try_command(&["CLUSTER", "SLOTS"]);
                reply.is_ok_and(|slots| owner(&slots, &slot) == Some(replica))
            });
        }
    }

    /// Moves a slot and its keys as `redis-cli --cluster reshard` does. `between` runs during the migration, before the
    /// first key has moved.
    pub fn move_slot(&self, slot: u16, from: usize, to: usize, between: impl FnOnce()) {
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let slot = slot.to_string();
        target.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &Self::id(from)]);
        source.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &Self::id(to)]);
        between();
        loop {
            let keys: Vec<String> =
                redis::from_redis_value(source.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])).unwrap();
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.command(&migrate);
        }
        for node in [to, from] {
            self.nodes[node].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &Self::id(to)]);
        }
    }

    fn wait_until_healthy(&self) {
        for node in &self.nodes {
            eventually("the Cluster is healthy", || {
                let reply = node.command(&["CLUSTER", "INFO"]);
                let info: String = redis::from_redis_value(reply).unwrap();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            });
        }
        for replica in &self.nodes[3..] {
            eventually("the replicas follow", || replica.info("master_link_status").as_deref() == Some("up"));
        }
    }
}

/// Which master owns this slot at the start.
pub fn owner_of(slot: u16) -> usize {
    SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).unwrap()
}

/// The `nodes.conf` of a node that already knows the others, so that they need not meet.
fn nodes_file(this: usize, ports: &[(u16, u16)]) -> String {
    let line = |(node, (port, bus)): (usize, &(u16, u16))| {
        let myself = if node == this { "myself," } else { "" };
        let (id, epoch) = (Cluster::id(node), node % 3 + 1);
        let address = format!("{id} 127.0.0.1:{port}@{bus} {myself}");
        match SLOTS.get(node) {
            Some((first, last)) => format!("{address}master - 0 0 {epoch} connected {first}-{last}\n"),
            None => format!("{address}slave {} 0 0 {epoch} connected\n", Cluster::id(node - 3)),
        }
    };
    let nodes: String = ports.iter().enumerate().map(line).collect();
    nodes + "vars currentEpoch 6 lastVoteEpoch 0\n"
}

/// The port of the master that owns a slot, in a reply to `CLUSTER SLOTS`.
fn owner(slots: &Value, slot: &str) -> Option<u16> {
    let slot: i64 = slot.parse().ok()?;
    let Value::Array(runs) = slots else { return None };
    runs.iter().find_map(|run| {
        let Value::Array(run) = run else { return None };
        let (Value::Int(first), Value::Int(last), Value::Array(master)) =
            (run.first()?, run.get(1)?, run.get(2)?)
        else {
            return None;
        };
        match master.get(1) {
            Some(Value::Int(port)) if (*first..=*last).contains(&slot) => u16::try_from(*port).ok(),
            _ => None,
        }
    })
}
