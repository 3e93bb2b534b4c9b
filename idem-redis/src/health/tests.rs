#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use redis::Value;

use super::answers::Fields;
use super::problem::HealthProblem;
use super::report::{Health, Persistence, Reported, ServerHealth};

fn fields(pairs: &[(&str, &str)]) -> Fields {
    Fields(Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
}

fn forbidden() -> Fields {
    Fields(Err("NOPERM".to_owned()))
}

fn server(info: &Fields, config: &Fields) -> ServerHealth {
    ServerHealth::read("h:1".to_owned(), info, config)
}

#[test]
fn redis_before_7_is_too_old_and_valkey_never_is() {
    for (info, version, old) in [
        (&[("redis_version", "6.2.14")][..], "Redis 6.2.14", true),
        (&[("redis_version", "5.0.7")], "Redis 5.0.7", true),
        (&[("redis_version", "7.0.15")], "Redis 7.0.15", false),
        (&[("redis_version", "8.2.1")], "Redis 8.2.1", false),
        (&[("redis_version", "7.2.4"), ("valkey_version", "9.1.0")], "Valkey 9.1.0", false),
        (&[("redis_version", "unstable")], "Redis unstable", false),
    ] {
        let server = server(&fields(info), &forbidden());
        assert_eq!(server.version, Reported::Known(version.to_owned()));
        assert_eq!(matches!(server.unusable(), Some(HealthProblem::TooOld { .. })), old, "{version}");
    }
}

#[test]
fn a_replica_is_unusable() {
    let server = server(&fields(&[("redis_version", "7.0.0"), ("role", "slave")]), &forbidden());
    assert_eq!(server.unusable(), Some(HealthProblem::Replica { address: "h:1".to_owned() }));
}

#[test]
fn every_policy_but_noeviction_evicts() {
    for (policy, evicts) in [("noeviction", false), ("volatile-lru", true), ("allkeys-random", true)] {
        let server = server(&fields(&[("maxmemory_policy", policy)]), &forbidden());
        assert_eq!(server.evicts().is_some(), evicts, "{policy}");
    }
}

#[test]
fn what_may_not_be_asked_is_unknown_and_says_why() {
    let server = server(&forbidden(), &forbidden());
    let unknown = || Reported::Unknown("NOPERM".to_owned());
    assert_eq!((&server.version, &server.role, &server.eviction), (&unknown(), &unknown(), &unknown()));
    assert_eq!(
        (&server.persistence, server.replicas.known()),
        (&Reported::Unknown("NOPERM".to_owned()), None)
    );
    assert_eq!((server.unusable(), server.evicts()), (None, None));
    let line = Health { servers: vec![server] }.to_string();
    assert!(line.contains("maxmemory-policy unknown (NOPERM)"), "{line}");
}

#[test]
fn persistence_is_what_is_configured() {
    let aof = fields(&[("aof_enabled", "1")]);
    let none = fields(&[("aof_enabled", "0")]);
    let configured =
        |appendonly, save| fields(&[("appendonly", appendonly), ("appendfsync", "everysec"), ("save", save)]);
    let append_only = |fsync| Reported::Known(Persistence::AppendOnly { fsync });
    for (info, config, expected) in [
        (&aof, configured("yes", ""), append_only(Reported::Known("everysec".to_owned()))),
        (&aof, forbidden(), append_only(Reported::Unknown("NOPERM".to_owned()))),
        (&none, configured("no", "3600 1"), Reported::Known(Persistence::Snapshots)),
        (&none, configured("no", ""), Reported::Known(Persistence::Nothing)),
        (&none, forbidden(), Reported::Unknown("NOPERM".to_owned())),
    ] {
        assert_eq!(server(info, &config).persistence, expected);
    }
}

#[test]
fn info_is_read_with_its_line_ends() {
    let text = "# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\n\r\n# Memory\r\n";
    let fields = Fields::from_info(Ok(Value::BulkString(text.as_bytes().to_vec())));
    assert_eq!(fields.find("redis_version"), Some("7.0.15"));
}

mod servers {
    //! With real servers.

    use std::sync::Arc;
    use std::time::Duration;

    use test_servers::blocking;
    use test_servers::redis::{Cluster, Kind, SentinelGroup, Server, Setup};

    use super::super::{Health, HealthMonitor, HealthProblem, Persistence, Reported};
    use crate::address::Address;
    use crate::link::Link;
    use crate::options::{HealthMode, RedisOptions};

    async fn link(url: &str) -> Link {
        Link::connect(&Address::parse(url).unwrap(), &RedisOptions::new()).await.unwrap()
    }

    /// Checks every few milliseconds.
    fn eager(mode: HealthMode) -> RedisOptions {
        RedisOptions::new().health(mode).health_interval(Duration::from_millis(10))
    }

    async fn monitor(link: &Link, options: &RedisOptions) -> Result<Arc<HealthMonitor>, HealthProblem> {
        HealthMonitor::start(link, options).await
    }

    async fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "this did not happen within 30 seconds: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn everything_about_a_server_is_reported() {
        for (kind, version) in [(Kind::Redis, "Redis "), (Kind::Valkey, "Valkey ")] {
            let server = Setup::new(kind).durable().start();
            let link = link(&server.url()).await;
            let monitor = monitor(&link, &RedisOptions::new()).await.unwrap();
            let Health { servers } = monitor.check(&link).await;
            let [server_health] = &servers[..] else { panic!("{servers:?}") };
            assert_eq!(server_health.address, server.address().to_string());
            assert!(server_health.version.known().unwrap().starts_with(version), "{server_health:?}");
            assert_eq!(server_health.role, Reported::Known("master".to_owned()));
            assert_eq!(server_health.eviction, Reported::Known("noeviction".to_owned()));
            let fsync = Reported::Known("always".to_owned());
            assert_eq!(server_health.persistence, Reported::Known(Persistence::AppendOnly { fsync }));
            assert_eq!(server_health.replicas, Reported::Known(0));
        }
    }

    #[tokio::test]
    async fn a_server_that_evicts_is_refused_if_strict_and_reported_if_not() {
        let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "allkeys-lru"]).start();
        let link = link(&server.url()).await;
        let problem = monitor(&link, &eager(HealthMode::Strict)).await.unwrap_err();
        let expected =
            HealthProblem::Evicts { address: server.address().to_string(), policy: "allkeys-lru".to_owned() };
        assert_eq!(problem, expected);
        let monitor = monitor(&link, &eager(HealthMode::Warn)).await.unwrap();
        assert_eq!(monitor.refusal(), None);
        assert!(monitor.check(&link).await.to_string().contains("maxmemory-policy allkeys-lru"));
    }

    #[tokio::test]
    async fn eviction_that_is_switched_on_later_is_noticed_and_so_is_its_end() {
        let server = Server::redis();
        let link = link(&server.url()).await;
        let strict = monitor(&link, &eager(HealthMode::Strict)).await.unwrap();
        let warned = monitor(&link, &eager(HealthMode::Warn)).await.unwrap();
        assert_eq!(strict.refusal(), None);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
        eventually("it is noticed", || strict.refusal().is_some()).await;
        assert_eq!(warned.refusal(), None);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        eventually("its end is noticed", || strict.refusal().is_none()).await;
    }

    #[tokio::test]
    async fn a_server_that_evicted_still_counts_when_it_may_no_longer_be_asked() {
        let server = Server::redis();
        let all = ["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all"];
        server.command(&all);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let monitor = monitor(&link, &eager(HealthMode::Strict)).await.unwrap();
        server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
        eventually("it is noticed", || monitor.refusal().is_some()).await;
        server.command(&["ACL", "SETUSER", "app", "-info", "-config"]);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        monitor.check(&link).await;
        assert!(monitor.refusal().is_some());
    }

    #[tokio::test]
    async fn a_user_who_may_not_ask_gets_unknown() {
        let server = Server::redis();
        server.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-info", "-config", "-role"]);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let monitor = monitor(&link, &RedisOptions::new()).await.unwrap();
        let health = monitor.check(&link).await;
        let [server_health] = &health.servers[..] else { panic!("{health:?}") };
        for reported in [&server_health.version, &server_health.role, &server_health.eviction] {
            assert!(
                matches!(reported, Reported::Unknown(reason) if reason.contains("NoPerm")),
                "{reported:?}"
            );
        }
        assert_eq!((server_health.persistence.known(), server_health.replicas.known()), (None, None));
        assert_eq!(monitor.refusal(), None);
        assert!(health.to_string().contains("unknown"));
    }

    #[tokio::test]
    async fn if_only_config_is_forbidden_the_policy_comes_from_info() {
        let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "volatile-ttl"]).start();
        server.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-config"]);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let problem = monitor(&link, &RedisOptions::new()).await.unwrap_err();
        assert!(matches!(problem, HealthProblem::Evicts { policy, .. } if policy == "volatile-ttl"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_masters_of_a_cluster_are_checked() {
        let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
        let link = link(&cluster.url()).await;
        let strict = monitor(&link, &eager(HealthMode::Strict)).await.unwrap();
        let health = strict.check(&link).await;
        assert_eq!(health.servers.len(), 3);
        assert!(health.servers.iter().all(|server| server.replicas == Reported::Known(1)), "{health}");
        cluster.nodes[1].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
        eventually("one of three is noticed", || strict.refusal().is_some()).await;
        let expected = cluster.nodes[1].address().to_string();
        assert!(
            matches!(strict.refusal(), Some(HealthProblem::Evicts { address, .. }) if address == expected)
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cluster_node_that_evicted_still_counts_when_only_the_others_answer() {
        let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
        for node in &cluster.nodes {
            node.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all"]);
        }
        let link = link(&cluster.url().replace("://", "://app:p@")).await;
        let monitor = monitor(&link, &RedisOptions::new()).await.unwrap();
        let node = &cluster.nodes[1];
        node.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
        monitor.check(&link).await;
        assert!(monitor.refusal().is_some());
        node.command(&["ACL", "SETUSER", "app", "-info", "-config"]);
        let health = monitor.check(&link).await;
        assert_eq!(health.servers.iter().filter(|server| server.eviction.known().is_none()).count(), 1);
        let expected = node.address().to_string();
        assert!(
            matches!(monitor.refusal(), Some(HealthProblem::Evicts { address, .. }) if address == expected)
        );
        // It may be asked again, and does not evict any more.
        node.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        node.command(&["ACL", "SETUSER", "app", "+info"]);
        monitor.check(&link).await;
        assert_eq!(monitor.refusal(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_master_that_evicted_still_counts_when_no_sentinel_answers() {
        let mut watched = blocking(SentinelGroup::start).await;
        let link = link(&watched.url()).await;
        let monitor = monitor(&link, &RedisOptions::new()).await.unwrap();
        watched.servers[0].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        monitor.check(&link).await;
        assert!(monitor.refusal().is_some());
        // No Sentinel says where the master is.
        watched.sentinels.iter().for_each(|sentinel| sentinel.process.pause());
        watched.servers[0].kill();
        monitor.check(&link).await;
        assert!(monitor.refusal().is_some());
    }

    #[tokio::test]
    async fn the_monitor_ends_with_the_store() {
        let server = Server::redis();
        let link = link(&server.url()).await;
        let monitor = monitor(&link, &eager(HealthMode::Strict)).await.unwrap();
        drop((monitor, link));
        blocking(move || {
            test_servers::eventually("the connection is closed", || {
                server.info("connected_clients").as_deref() == Some("1")
            });
        })
        .await;
    }

    #[tokio::test]
    async fn a_peer_that_is_not_redis_is_misconfigured() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let address = Address::parse(&url).unwrap();
        let error = Link::connect(&address, &RedisOptions::new()).await.err().unwrap();
        assert_eq!(error.kind, idem_core::StoreErrorKind::Misconfigured, "{error:?}");
    }
}
