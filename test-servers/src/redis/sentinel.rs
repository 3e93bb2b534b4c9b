//! [`SentinelGroup`]: a master and its replicas, watched by Sentinels.

use std::collections::HashMap;
use std::process::Command;

use tempfile::TempDir;

use super::{Kind, Server, Setup};
use crate::{Process, eventually, free_port};

/// The name by which the Sentinels know the master.
pub const SERVICE: &str = "shop";

/// A master, two replicas and three Sentinels.
pub struct SentinelGroup {
    /// The first is the master at the start.
    pub servers: Vec<Server>,
    /// The Sentinels that watch them.
    pub sentinels: Vec<Sentinel>,
}

/// One Sentinel.
pub struct Sentinel {
    /// Where it listens.
    pub port: u16,
    /// To kill or pause it.
    pub process: Process,
    password: Option<String>,
    _directory: TempDir,
}

impl SentinelGroup {
    /// Starts all of them, and returns when they know each other. A master that is silent for half a second is replaced.
    pub fn start() -> Self {
        Self::with(|setup| setup, None)
    }

    /// Starts them with one password for the servers, which `settings` must set, and one for the Sentinels.
    pub fn secured(settings: impl Fn(Setup) -> Setup, servers: &str, sentinels: &str) -> Self {
        Self::with(settings, Some((servers, sentinels)))
    }

    fn with(settings: impl Fn(Setup) -> Setup, passwords: Option<(&str, &str)>) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let master = ports[0].to_string();
        let setup = || settings(Setup::new(Kind::Redis));
        let mut servers = vec![setup().launch_on(ports[0], tempfile::tempdir().unwrap())];
        for port in &ports[1..] {
            let replica = setup().set(&["replicaof", "127.0.0.1", &master]);
            servers.push(replica.launch_on(*port, tempfile::tempdir().unwrap()));
        }
        let others: Vec<(u16, String)> = (0..3).map(|n| (free_port(), format!("{n}").repeat(40))).collect();
        let sentinels = (0..3).map(|n| Sentinel::launch(n, ports, &others, passwords)).collect();
        let mut group = Self { servers, sentinels };
        group.servers.iter_mut().for_each(Server::wait_until_ready);
        group.wait_until_they_agree();
        group
    }

    /// The URL that names all Sentinels.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The index of the master in `servers`, as the first Sentinel that answers knows it.
    pub fn master(&self) -> Option<usize> {
        let port = self.sentinels.iter().find_map(Sentinel::master_port)?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Blocks until all running Sentinels report another master than `old`, and returns its index.
    pub fn wait_until_replaced(&self, old: usize) -> usize {
        let old = self.servers[old].port();
        eventually("a replica is promoted", || {
            self.sentinels.iter().filter_map(Sentinel::master_port).all(|port| port != old)
        });
        self.master().unwrap()
    }

    fn wait_until_they_agree(&self) {
        eventually("both replicas follow", || {
            self.servers[1..]
                .iter()
                .all(|replica| replica.info("master_link_status").as_deref() == Some("up"))
        });
        eventually("the Sentinels know that both replicas can be promoted", || {
            self.sentinels.iter().all(|sentinel| {
                let reply = sentinel.command(&["SENTINEL", "REPLICAS", SERVICE]).map(redis::from_redis_value);
                let replicas: Vec<HashMap<String, String>> = reply.unwrap_or(Ok(Vec::new())).unwrap();
                let is_fit = |replica: &HashMap<String, String>| {
                    replica["flags"] == "slave" && replica["master-link-status"] == "ok"
                };
                replicas.len() == 2 && replicas.iter().all(is_fit)
            })
        });
        eventually("the Sentinels know each other", || {
            self.sentinels.iter().all(|sentinel| {
                let reply = sentinel.command(&["SENTINEL", "CKQUORUM", SERVICE]);
                matches!(reply, Ok(reply) if format!("{reply:?}").contains("OK 3 usable"))
            })
        });
    }
}

impl Sentinel {
    /// Its file already names what it would discover within some seconds.
    fn launch(
        n: usize,
        servers: [u16; 3],
        others: &[(u16, String)],
        passwords: Option<(&str, &str)>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, id) = &others[n];
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            "dir .".to_owned(),
            format!("sentinel myid {id}"),
            format!("sentinel monitor {SERVICE} 127.0.0.1 {} 2", servers[0]),
            format!("sentinel down-after-milliseconds {SERVICE} 500"),
            format!("sentinel failover-timeout {SERVICE} 3000"),
        ];
        for replica in &servers[1..] {
            lines.push(format!("sentinel known-replica {SERVICE} 127.0.0.1 {replica}"));
        }
        for (other, id) in others.iter().filter(|(other, _)| other != port) {
            lines.push(format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {other} {id}"));
        }
        if let Some((servers, sentinels)) = passwords {
            lines.push(format!("sentinel auth-pass {SERVICE} {servers}"));
            lines.push(format!("requirepass {sentinels}"));
        }
        std::fs::write(directory.path().join("sentinel.conf"), lines.join("\n") + "\n").unwrap();
        let mut command = Command::new(Kind::Redis.program());
        command.args(["sentinel.conf", "--sentinel"]).current_dir(directory.path());
        let process = Process::start(&command, &directory.path().join("log"));
        let password = passwords.map(|(_, sentinels)| sentinels.to_owned());
        Self { port: *port, password, process, _directory: directory }
    }

    /// Sends a command on a new connection.
    pub fn command(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
        let second = std::time::Duration::from_secs(1);
        let mut connection = redis::Client::open(self.login())?.get_connection_with_timeout(second)?;
        connection.set_read_timeout(Some(second))?;
        redis::cmd(command[0]).arg(&command[1..]).query(&mut connection)
    }

    fn login(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    fn master_port(&self) -> Option<u16> {
        let reply = self.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
        let (_, port): (String, u16) = redis::from_redis_value(reply).ok()?;
        Some(port)
    }
}
