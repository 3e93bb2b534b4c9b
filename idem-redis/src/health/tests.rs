#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use redis::Value;

use super::report::{Ailment, Fact, Health, Persistence, ServerHealth};
use super::told::Told;

fn told(pairs: &[(&str, &str)]) -> Told {
    Told(Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()))
}

fn forbidden() -> Told {
    Told(Err("NOPERM".to_owned()))
}

fn server(info: &Told, config: &Told) -> ServerHealth {
    ServerHealth::of("h:1".to_owned(), info, config)
}

#[test]
fn redis_before_7_is_old_and_valkey_never_is() {
    for (info, version, old) in [
        (&[("redis_version", "6.2.14")][..], "Redis 6.2.14", true),
        (&[("redis_version", "5.0.7")], "Redis 5.0.7", true),
        (&[("redis_version", "7.0.15")], "Redis 7.0.15", false),
        (&[("redis_version", "8.2.1")], "Redis 8.2.1", false),
        (&[("redis_version", "7.2.4"), ("valkey_version", "9.1.0")], "Valkey 9.1.0", false),
        (&[("redis_version", "unstable")], "Redis unstable", false),
    ] {
        let server = server(&told(info), &forbidden());
        assert_eq!(server.version, Fact::Known(version.to_owned()));
        assert_eq!(matches!(server.unfit(), Some(Ailment::Old { .. })), old, "{version}");
    }
}

#[test]
fn a_replica_is_unfit() {
    let server = server(&told(&[("redis_version", "7.0.0"), ("role", "slave")]), &forbidden());
    assert_eq!(server.unfit(), Some(Ailment::Replica { address: "h:1".to_owned() }));
}

#[test]
fn every_policy_but_noeviction_evicts() {
    for (policy, evicts) in [("noeviction", false), ("volatile-lru", true), ("allkeys-random", true)] {
        let server = server(&told(&[("maxmemory_policy", policy)]), &forbidden());
        assert_eq!(server.evicts().is_some(), evicts, "{policy}");
    }
}

#[test]
fn what_may_not_be_looked_at_is_unknown_and_says_why() {
    let server = server(&forbidden(), &forbidden());
    let unknown = || Fact::Unknown("NOPERM".to_owned());
    assert_eq!((&server.version, &server.role, &server.eviction), (&unknown(), &unknown(), &unknown()));
    assert_eq!((&server.persistence, server.replicas.known()), (&Fact::Unknown("NOPERM".to_owned()), None));
    assert_eq!((server.unfit(), server.evicts()), (None, None));
    let line = Health { servers: vec![server] }.to_string();
    assert!(line.contains("maxmemory-policy unknown (NOPERM)"), "{line}");
}

#[test]
fn persistence_is_what_is_configured() {
    let aof = told(&[("aof_enabled", "1")]);
    let none = told(&[("aof_enabled", "0")]);
    let configured =
        |appendonly, save| told(&[("appendonly", appendonly), ("appendfsync", "everysec"), ("save", save)]);
    let append_only = |fsync| Fact::Known(Persistence::AppendOnly { fsync });
    for (info, config, expected) in [
        (&aof, configured("yes", ""), append_only(Fact::Known("everysec".to_owned()))),
        (&aof, forbidden(), append_only(Fact::Unknown("NOPERM".to_owned()))),
        (&none, configured("no", "3600 1"), Fact::Known(Persistence::Snapshots)),
        (&none, configured("no", ""), Fact::Known(Persistence::Nothing)),
        (&none, forbidden(), Fact::Unknown("NOPERM".to_owned())),
    ] {
        assert_eq!(server(info, &config).persistence, expected);
    }
}

#[test]
fn info_is_read_with_its_line_ends() {
    let text = "# Server\r\nredis_version:7.0.15\r\nexecutable:/usr/bin/redis-server\r\n\r\n# Memory\r\n";
    let told = Told::info(Ok(Value::BulkString(text.as_bytes().to_vec())));
    assert_eq!(told.find("redis_version"), Some("7.0.15"));
}

mod servers {
    //! Real ones.

    use std::sync::Arc;
    use std::time::Duration;

    use test_servers::blocking;
    use test_servers::redis::{Cluster, Kind, SentinelGroup, Server, Setup};

    use super::super::{Ailment, Doctor, Fact, Health, Persistence};
    use crate::address::Address;
    use crate::link::Link;
    use crate::options::{HealthMode, Options};

    async fn link(url: &str) -> Link {
        Link::connect(&Address::parse(url).unwrap(), &Options::new()).await.unwrap()
    }

    /// Looks every few milliseconds.
    fn eager(mode: HealthMode) -> Options {
        Options::new().health(mode).health_interval(Duration::from_millis(10))
    }

    async fn doctor(link: &Link, options: &Options) -> Result<Arc<Doctor>, Ailment> {
        Doctor::first(link, options).await
    }

    async fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_server_tells_everything_about_itself() {
        for (kind, version) in [(Kind::Redis, "Redis "), (Kind::Valkey, "Valkey ")] {
            let server = Setup::new(kind).durable().start();
            let link = link(&server.url()).await;
            let doctor = doctor(&link, &Options::new()).await.unwrap();
            let Health { servers } = doctor.look(&link).await;
            let [told] = &servers[..] else { panic!("{servers:?}") };
            assert_eq!(told.address, server.address().to_string());
            assert!(told.version.known().unwrap().starts_with(version), "{told:?}");
            assert_eq!(told.role, Fact::Known("master".to_owned()));
            assert_eq!(told.eviction, Fact::Known("noeviction".to_owned()));
            let fsync = Fact::Known("always".to_owned());
            assert_eq!(told.persistence, Fact::Known(Persistence::AppendOnly { fsync }));
            assert_eq!(told.replicas, Fact::Known(0));
        }
    }

    #[tokio::test]
    async fn a_server_that_evicts_is_refused_if_strict_and_reported_if_not() {
        let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "allkeys-lru"]).start();
        let link = link(&server.url()).await;
        let ailment = doctor(&link, &eager(HealthMode::Strict)).await.unwrap_err();
        let expected =
            Ailment::Evicts { address: server.address().to_string(), policy: "allkeys-lru".to_owned() };
        assert_eq!(ailment, expected);
        let doctor = doctor(&link, &eager(HealthMode::Warn)).await.unwrap();
        assert_eq!(doctor.refusal(), None);
        assert!(doctor.look(&link).await.to_string().contains("maxmemory-policy allkeys-lru"));
    }

    #[tokio::test]
    async fn eviction_that_is_switched_on_later_is_noticed_and_so_is_its_end() {
        let server = Server::redis();
        let link = link(&server.url()).await;
        let strict = doctor(&link, &eager(HealthMode::Strict)).await.unwrap();
        let warned = doctor(&link, &eager(HealthMode::Warn)).await.unwrap();
        assert_eq!(strict.refusal(), None);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
        eventually("it is noticed", || strict.refusal().is_some()).await;
        assert_eq!(warned.refusal(), None);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        eventually("its end is noticed", || strict.refusal().is_none()).await;
    }

    #[tokio::test]
    async fn a_server_that_evicted_and_may_no_longer_be_asked_is_no_better() {
        let server = Server::redis();
        let all = ["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all"];
        server.command(&all);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let doctor = doctor(&link, &eager(HealthMode::Strict)).await.unwrap();
        server.command(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
        eventually("it is noticed", || doctor.refusal().is_some()).await;
        server.command(&["ACL", "SETUSER", "app", "-info", "-config"]);
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        doctor.look(&link).await;
        assert!(doctor.refusal().is_some());
    }

    #[tokio::test]
    async fn a_user_who_may_not_look_is_told_what_is_unknown() {
        let server = Server::redis();
        server.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-info", "-config", "-role"]);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let doctor = doctor(&link, &Options::new()).await.unwrap();
        let health = doctor.look(&link).await;
        let [told] = &health.servers[..] else { panic!("{health:?}") };
        for fact in [&told.version, &told.role, &told.eviction] {
            assert!(matches!(fact, Fact::Unknown(reason) if reason.contains("NoPerm")), "{fact:?}");
        }
        assert_eq!((told.persistence.known(), told.replicas.known()), (None, None));
        assert_eq!(doctor.refusal(), None);
        assert!(health.to_string().contains("unknown"));
    }

    #[tokio::test]
    async fn where_only_config_is_forbidden_info_tells_the_policy() {
        let server = Setup::new(Kind::Redis).set(&["maxmemory-policy", "volatile-ttl"]).start();
        server.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all", "-config"]);
        let link = link(&format!("redis://app:p@{}", server.address())).await;
        let ailment = doctor(&link, &Options::new()).await.unwrap_err();
        assert!(matches!(ailment, Ailment::Evicts { policy, .. } if policy == "volatile-ttl"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_cluster_all_masters_are_looked_at() {
        let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
        let link = link(&cluster.url()).await;
        let strict = doctor(&link, &eager(HealthMode::Strict)).await.unwrap();
        let health = strict.look(&link).await;
        assert_eq!(health.servers.len(), 3);
        assert!(health.servers.iter().all(|server| server.replicas == Fact::Known(1)), "{health}");
        cluster.nodes[1].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
        eventually("one of three is noticed", || strict.refusal().is_some()).await;
        let expected = cluster.nodes[1].address().to_string();
        assert!(matches!(strict.refusal(), Some(Ailment::Evicts { address, .. }) if address == expected));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_of_a_cluster_that_evicted_and_does_not_answer_is_no_better_because_others_do() {
        let cluster = blocking(|| Cluster::start(Kind::Redis)).await;
        for node in &cluster.nodes {
            node.command(&["ACL", "SETUSER", "app", "on", ">p", "~*", "+@all"]);
        }
        let link = link(&cluster.url().replace("://", "://app:p@")).await;
        let doctor = doctor(&link, &Options::new()).await.unwrap();
        let node = &cluster.nodes[1];
        node.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
        doctor.look(&link).await;
        assert!(doctor.refusal().is_some());
        node.command(&["ACL", "SETUSER", "app", "-info", "-config"]);
        let health = doctor.look(&link).await;
        assert_eq!(health.servers.iter().filter(|server| server.eviction.known().is_none()).count(), 1);
        let expected = node.address().to_string();
        assert!(matches!(doctor.refusal(), Some(Ailment::Evicts { address, .. }) if address == expected));
        // It tells again, and is better.
        node.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        node.command(&["ACL", "SETUSER", "app", "+info"]);
        doctor.look(&link).await;
        assert_eq!(doctor.refusal(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_master_that_evicted_is_no_better_because_sentinel_cannot_be_asked_for_it() {
        let mut watched = blocking(SentinelGroup::start).await;
        let link = link(&watched.url()).await;
        let doctor = doctor(&link, &Options::new()).await.unwrap();
        watched.servers[0].command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
        doctor.look(&link).await;
        assert!(doctor.refusal().is_some());
        // Nobody knows where it is any more, nor that it is another one.
        watched.sentinels.iter().for_each(|sentinel| sentinel.process.pause());
        watched.servers[0].kill();
        doctor.look(&link).await;
        assert!(doctor.refusal().is_some());
    }

    #[tokio::test]
    async fn the_doctor_leaves_with_the_store() {
        let server = Server::redis();
        let link = link(&server.url()).await;
        let doctor = doctor(&link, &eager(HealthMode::Strict)).await.unwrap();
        drop((doctor, link));
        blocking(move || {
            test_servers::eventually("the connection is closed", || {
                server.info("connected_clients").as_deref() == Some("1")
            });
        })
        .await;
    }

    #[tokio::test]
    async fn what_answers_and_is_no_redis_is_no_store() {
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
        let error = Link::connect(&address, &Options::new()).await.err().unwrap();
        assert_eq!(error.kind, idem_core::StoreErrorKind::Misconfigured, "{error:?}");
    }
}
