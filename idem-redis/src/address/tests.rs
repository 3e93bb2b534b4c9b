#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use super::{Address, AddressError, Endpoint, Login, Servers};

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.to_owned(), port }
}

fn login(user: Option<&str>, password: Option<&str>, db: i64) -> Login {
    Login { user: user.map(Into::into), password: password.map(Into::into), db }
}

#[test]
fn one_server() {
    for (url, endpoint, expected) in [
        ("redis://h", tcp("h", 6379), login(None, None, 0)),
        ("valkey://h/", tcp("h", 6379), login(None, None, 0)),
        ("REDIS://127.0.0.1:7000/3", tcp("127.0.0.1", 7000), login(None, None, 3)),
        ("redis://:p%40ss%2F@h", tcp("h", 6379), login(None, Some("p@ss/"), 0)),
        ("redis://u:p@[::1]:7/0", tcp("::1", 7), login(Some("u"), Some("p"), 0)),
        ("redis://u@h", tcp("h", 6379), login(Some("u"), None, 0)),
        // An unencoded `@` of a password is understood, because hosts have none.
        ("redis://u:p@ss@h", tcp("h", 6379), login(Some("u"), Some("p@ss"), 0)),
    ] {
        let address = Address::parse(url).unwrap();
        assert_eq!(
            (address.servers, address.login, address.tls),
            (Servers::One(endpoint), expected, false),
            "{url}"
        );
    }
}

#[test]
fn a_unix_socket() {
    for (url, expected) in [
        ("unix:/run/r.sock", login(None, None, 0)),
        ("redis+unix:///run/r.sock?db=2&user=u&password=p%26", login(Some("u"), Some("p&"), 2)),
    ] {
        let address = Address::parse(url).unwrap();
        assert_eq!(address.servers, Servers::One(Endpoint::Unix("/run/r.sock".into())), "{url}");
        assert_eq!(address.login, expected, "{url}");
    }
}

#[test]
fn sentinels_have_a_login_of_their_own() {
    let address =
        Address::parse("redis+sentinel://u:p@a,b:7/shop/4?sentinel_user=su&sentinel_password=sp").unwrap();
    let expected = Servers::Sentinel {
        sentinels: vec![tcp("a", 26_379), tcp("b", 7)],
        service: "shop".into(),
        login: login(Some("su"), Some("sp"), 0),
    };
    assert_eq!((address.servers, address.login), (expected, login(Some("u"), Some("p"), 4)));
}

#[test]
fn a_cluster() {
    let address = Address::parse("redis+cluster://:p@a:1,b").unwrap();
    assert_eq!(address.servers, Servers::Cluster(vec![tcp("a", 1), tcp("b", 6379)]));
    assert_eq!(address.login, login(None, Some("p"), 0));
}

#[cfg(feature = "rustls")]
#[test]
fn a_second_s_is_tls() {
    for url in ["rediss://h", "valkeys://h", "rediss+cluster://h", "rediss+sentinel://h/s"] {
        assert!(Address::parse(url).unwrap().tls, "{url}");
    }
    assert_eq!(Address::parse("rediss+unix:/r"), Err(AddressError::Scheme));
}

#[cfg(not(feature = "rustls"))]
#[test]
fn without_the_feature_a_url_with_tls_is_refused() {
    assert_eq!(Address::parse("rediss://h"), Err(AddressError::NoTls));
}

#[test]
fn each_mistake_has_its_own_message() {
    use AddressError::{
        ClusterDatabase, Database, Encoding, Host, NoHost, NoService, Parameter, Scheme, SeveralHosts,
        SocketPath,
    };
    for (url, expected) in [
        ("localhost", Scheme),
        ("http://h", Scheme),
        ("postgres://h", Scheme),
        ("redis+ring://h", Scheme),
        ("redis:h", NoHost),
        ("redis://", NoHost),
        ("redis://u:p@", NoHost),
        ("redis://h:port", Host),
        ("redis://h:70000", Host),
        ("redis://[::1", Host),
        ("redis://[not]", Host),
        ("redis://ho st", Host),
        ("redis://:pa#ss@h", Host),
        ("redis://:pa/ss@h", Host),
        ("redis://a,b", SeveralHosts),
        ("redis://u:%zz@h", Encoding),
        ("redis://u:%ff@h", Encoding),
        ("redis://u:%4", Host),
        ("redis://h/first", Database),
        ("redis://h/-1", Database),
        ("redis://h/1/2", Database),
        ("redis://h?password=p", Parameter("none")),
        ("redis+cluster://h/1", ClusterDatabase),
        ("redis+cluster://h?x=1", Parameter("none")),
        ("redis+sentinel://h", NoService),
        ("redis+sentinel://h/", NoService),
        ("redis+sentinel://h/s/1/2", NoService),
        ("redis+sentinel://h/s?password=p", Parameter("sentinel_user and sentinel_password")),
        ("redis+unix:relative", SocketPath),
        ("unix:/r?x=1", Parameter("db, user and password")),
    ] {
        assert_eq!(Address::parse(url).unwrap_err(), expected, "{url}");
    }
}

#[test]
fn no_error_and_no_debug_shows_a_part_of_a_password() {
    const SECRET: &str = "s3cr3t";
    for url in [
        "redis://:s3cr3t@h",
        "redis://u:s3cr3t@h/x",
        "redis://u:a/s3cr3t@h",
        "redis://u:a?s3cr3t@h",
        "redis://u:a#s3cr3t@h",
        "redis://u:a%s3cr3t@h",
        "redis://u:a,s3cr3t@h",
        "redis://u:s3cr3t",
        "s3cr3t@h",
        "s3cr3t://h",
        "redis+s3cr3t://h",
        "redis+sentinel://:s3cr3t@h/s?sentinel_password=s3cr3t",
        "redis+sentinel://h/s?s3cr3t=1",
        "redis+cluster://:s3cr3t@h,i",
        "redis+unix:/r?password=s3cr3t",
        "redis://s3cr3t@h",
    ] {
        let shown = match Address::parse(url) {
            Ok(address) => format!("{address:?}"),
            Err(error) => format!("{error:?} {error}"),
        };
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn endpoints_are_read_as_servers_write_them() {
    assert_eq!(Endpoint::from_server("10.0.0.1:7", "h"), Some(tcp("10.0.0.1", 7)));
    assert_eq!(Endpoint::from_server("::1:7", "h"), Some(tcp("::1", 7)));
    assert_eq!(Endpoint::from_server(":7", "h"), Some(tcp("h", 7)));
    assert_eq!(Endpoint::from_server("?:7", "h"), Some(tcp("h", 7)));
    assert_eq!(Endpoint::from_server("h", "h"), None);
    assert_eq!(tcp("::1", 7).to_string(), "[::1]:7");
}
