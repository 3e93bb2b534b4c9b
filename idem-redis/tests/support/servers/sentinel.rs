//! [`Watched`]: a master and its replicas, watched by Sentinels.

use std::collections::HashMap;
use std::process::Command;

use conformance_tests::server::{Process, free_port};
use tempfile::TempDir;

use super::eventually;
use super::single::{Kind, Server, Setup};

/// The name of the master, for its Sentinels.
pub(crate) const SERVICE: &str = "shop";

/// A master, two replicas, three Sentinels.
pub(crate) struct Watched {
    /// The first was the master at the beginning.
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Sentinel>,
}

/// One Sentinel.
pub(crate) struct Sentinel {
    pub(crate) port: u16,
    pub(crate) process: Process,
    password: Option<String>,
    directory: TempDir,
}

impl Watched {
    /// Starts all of them, and returns when they know each other. A master that is silent for half a second is replaced.
    pub(crate) fn start() -> Self {
        Self::with(|setup| setup, None)
    }

    /// The same with passwords: the servers' and the Sentinels'. The settings have to give the servers theirs.
    pub(crate) fn secured(settings: impl Fn(Setup) -> Setup, servers: &str, sentinels: &str) -> Self {
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
        let mut watched = Self { servers, sentinels };
        watched.servers.iter_mut().for_each(Server::wait_until_it_answers);
        watched.wait_until_they_agree();
        watched
    }

    /// The URL that names all Sentinels.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The place of the master among `servers`, as the first Sentinel that answers says.
    pub(crate) fn master(&self) -> Option<usize> {
        let port = self.sentinels.iter().find_map(Sentinel::master_port)?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// Waits until all Sentinels that run call another one the master.
    pub(crate) fn wait_until_replaced(&self, old: usize) -> usize {
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
                let told = sentinel.tell(&["SENTINEL", "REPLICAS", SERVICE]).map(redis::from_redis_value);
                let replicas: Vec<HashMap<String, String>> = told.unwrap_or(Ok(Vec::new())).unwrap();
                let is_fit = |replica: &HashMap<String, String>| {
                    replica["flags"] == "slave" && replica["master-link-status"] == "ok"
                };
                replicas.len() == 2 && replicas.iter().all(is_fit)
            })
        });
        eventually("the Sentinels know each other", || {
            self.sentinels.iter().all(|sentinel| {
                let told = sentinel.tell(&["SENTINEL", "CKQUORUM", SERVICE]);
                matches!(told, Ok(told) if format!("{told:?}").contains("OK 3 usable"))
            })
        });
    }
}

impl Sentinel {
    /// What it would find out in some seconds stands in its file from the beginning.
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
        Self { port: *port, password, process, directory }
    }

    /// A command, on a connection of its own.
    pub(crate) fn tell(&self, command: &[&str]) -> redis::RedisResult<redis::Value> {
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
        let told = self.tell(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
        let (_, port): (String, u16) = redis::from_redis_value(told).ok()?;
        Some(port)
    }
}
