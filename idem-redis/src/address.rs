//! [`Address`]: where the servers are and how to log in, read from a URL.
//!
//! | URL | what it means |
//! |---|---|
//! | `redis://[[user]:password@]host[:port][/db]` | one server; `valkey://` is the same |
//! | `redis+unix:/path[?db=1&user=..&password=..]` | one server on a Unix socket; `unix:` is the same |
//! | `redis+sentinel://[[user]:password@]host[:port],host../service[/db][?sentinel_user=..&sentinel_password=..]` | the master that Sentinel names |
//! | `redis+cluster://[[user]:password@]host[:port],host..` | Redis Cluster, found through any of these nodes |
//!
//! With `rediss` or `valkeys` instead, everything is TLS. User and password in front of the hosts are for the servers that
//! keep the data; Sentinels have their own. Both are percent-encoded.
//!
//! - INV-1: no error and no `Debug` of this module contains a part of the URL, since any part may turn out to be the
//!   password (an unencoded `/` or `@` in it moves it elsewhere).

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// Servers, and the login for them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) servers: Servers,
    pub(crate) tls: bool,
    pub(crate) login: Login,
}

/// How the server is found that a record is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    One(Place),
    Sentinel { sentinels: Vec<Place>, service: String, login: Login },
    Cluster(Vec<Place>),
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Who we are to a server.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
}

/// Why a URL is none of ours. See INV-1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    #[error(
        "the URL of a Redis store begins with redis://, redis+unix:, redis+sentinel:// or redis+cluster:// (rediss.. with \
         TLS; valkey.. is the same)"
    )]
    Scheme,
    #[error("this build has no TLS; enable the feature `rustls` of idem-redis")]
    NoTls,
    #[error("the URL names no host; it is scheme://[user:password@]host[:port]")]
    NoHost,
    #[error(
        "a host of the URL is not host or host:port; if the password contains one of / @ : ? # % , it has to be \
         percent-encoded"
    )]
    Host,
    #[error("several hosts are for redis+sentinel:// and redis+cluster://; one server has one host")]
    SeveralHosts,
    #[error("user and password are percent-encoded UTF-8; a % stands before two hexadecimal digits")]
    Encoding,
    #[error("the path of the URL is the number of a database, /0 for example")]
    Database,
    #[error("a Cluster has one database, which has no number in the URL")]
    ClusterDatabase,
    #[error(
        "the path of a Sentinel URL is the name under which the Sentinels know the master: \
         redis+sentinel://host,host/mymaster"
    )]
    NoService,
    #[error("the URL of a Unix socket is redis+unix: and an absolute path")]
    SocketPath,
    #[error("the URL has a parameter that this kind of URL does not take; it takes {0}")]
    Parameter(&'static str),
}

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once(':').ok_or(AddressError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let (family, kind) = match scheme.split_once('+') {
            None if scheme == "unix" => ("redis", "unix"),
            None => (scheme.as_str(), ""),
            Some((family, kind)) => (family, kind),
        };
        let tls = match family {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(AddressError::Scheme),
        };
        if tls && !cfg!(feature = "rustls") {
            return Err(AddressError::NoTls);
        }
        // A fragment is never sent anywhere, so that it can only be a password's unencoded `#`.
        if rest.contains('#') {
            return Err(AddressError::Host);
        }
        let (servers, login) = match kind {
            "unix" if !tls => socket(rest)?,
            "" => one(Parts::of(rest)?)?,
            "sentinel" => sentinel(Parts::of(rest)?)?,
            "cluster" => cluster(&Parts::of(rest)?)?,
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self { servers, tls, login })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, tls, login } = self;
        f.debug_struct("Address").field("servers", servers).field("tls", tls).field("login", login).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password, db } = self;
        f.debug_struct("Login")
            // Some providers take their token as the user's name.
            .field("user", &user.as_ref().map(|_| "..."))
            .field("password", &password.as_ref().map(|_| "..."))
            .field("db", db)
            .finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Place {
    /// Reads `host:port` as the servers write it: an IPv6 address has no brackets. `same` is the host to use where they
    /// leave it out.
    pub(crate) fn told(text: &str, same: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { same } else { host };
        Some(Self::Tcp { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// The host, if there is one.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix(_) => "localhost",
        }
    }
}

/// Names and values.
type Query<'u> = Vec<(&'u str, String)>;

/// What follows the scheme of a URL with hosts.
struct Parts<'u> {
    login: Login,
    hosts: Vec<&'u str>,
    path: Vec<&'u str>,
    query: Query<'u>,
}

impl<'u> Parts<'u> {
    fn of(rest: &'u str) -> Result<Self, AddressError> {
        let rest = rest.strip_prefix("//").ok_or(AddressError::NoHost)?;
        let (rest, query) = split_query(rest)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            None => (Login::default(), authority),
            Some((login, hosts)) => {
                let (user, password) = match login.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (login, None),
                };
                let user = if user.is_empty() { None } else { Some(decoded(user)?) };
                (Login { user, password: password.map(decoded).transpose()?, db: 0 }, hosts)
            }
        };
        if hosts.is_empty() {
            return Err(AddressError::NoHost);
        }
        // It was the password that had the slash.
        if path.contains('@') {
            return Err(AddressError::Host);
        }
        let path = if path.is_empty() { Vec::new() } else { path.trim_end_matches('/').split('/').collect() };
        Ok(Self { login, hosts: hosts.split(',').collect(), path, query })
    }
}

fn one(mut parts: Parts<'_>) -> Result<(Servers, Login), AddressError> {
    let [host] = parts.hosts[..] else { return Err(AddressError::SeveralHosts) };
    if !parts.query.is_empty() {
        return Err(AddressError::Parameter("none"));
    }
    parts.login.db = match parts.path[..] {
        [] => 0,
        [db] => database(db)?,
        _ => return Err(AddressError::Database),
    };
    Ok((Servers::One(place(host, SERVER_PORT)?), parts.login))
}

fn sentinel(mut parts: Parts<'_>) -> Result<(Servers, Login), AddressError> {
    let (service, db) = match parts.path[..] {
        [service] => (service, 0),
        [service, db] => (service, database(db)?),
        _ => return Err(AddressError::NoService),
    };
    let service = decoded(service)?;
    if service.is_empty() {
        return Err(AddressError::NoService);
    }
    parts.login.db = db;
    let mut login = Login::default();
    for (name, value) in parts.query {
        match name {
            "sentinel_user" => login.user = Some(value),
            "sentinel_password" => login.password = Some(value),
            _ => return Err(AddressError::Parameter("sentinel_user and sentinel_password")),
        }
    }
    let sentinels = places(&parts.hosts, SENTINEL_PORT)?;
    Ok((Servers::Sentinel { sentinels, service, login }, parts.login))
}

fn cluster(parts: &Parts<'_>) -> Result<(Servers, Login), AddressError> {
    if !parts.query.is_empty() {
        return Err(AddressError::Parameter("none"));
    }
    match parts.path[..] {
        [] | ["0"] => {}
        _ => return Err(AddressError::ClusterDatabase),
    }
    Ok((Servers::Cluster(places(&parts.hosts, SERVER_PORT)?), parts.login.clone()))
}

fn socket(rest: &str) -> Result<(Servers, Login), AddressError> {
    if !cfg!(unix) {
        return Err(AddressError::SocketPath);
    }
    let (path, query) = split_query(rest)?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err(AddressError::SocketPath);
    }
    let mut login = Login::default();
    for (name, value) in query {
        match name {
            "db" => login.db = database(&value)?,
            "user" => login.user = Some(value),
            "password" | "pass" => login.password = Some(value),
            _ => return Err(AddressError::Parameter("db, user and password")),
        }
    }
    Ok((Servers::One(Place::Unix(decoded(path)?.into())), login))
}

fn split_query(rest: &str) -> Result<(&str, Query<'_>), AddressError> {
    let Some((rest, query)) = rest.split_once('?') else { return Ok((rest, Vec::new())) };
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name, decoded(value)?))
    });
    Ok((rest, pairs.collect::<Result<_, _>>()?))
}

fn database(text: &str) -> Result<i64, AddressError> {
    text.parse().ok().filter(|db| *db >= 0).ok_or(AddressError::Database)
}

fn places(hosts: &[&str], port: u16) -> Result<Vec<Place>, AddressError> {
    hosts.iter().map(|host| place(host, port)).collect()
}

fn place(text: &str, default: u16) -> Result<Place, AddressError> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(AddressError::Host)?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| AddressError::Host)?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(AddressError::Host)?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(AddressError::Host);
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().map_err(|_| AddressError::Host)?,
    };
    Ok(Place::Tcp { host: host.to_owned(), port })
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit =
            || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(AddressError::Encoding);
        match byte {
            b'%' => bytes.push(u8::try_from(digit()? * 16 + digit()?).map_err(|_| AddressError::Encoding)?),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.to_owned(), port }
    }

    fn login(user: Option<&str>, password: Option<&str>, db: i64) -> Login {
        Login { user: user.map(Into::into), password: password.map(Into::into), db }
    }

    #[test]
    fn one_server() {
        let at = |url| Address::parse(url).unwrap();
        for (url, place, expected) in [
            ("redis://h", tcp("h", 6379), login(None, None, 0)),
            ("valkey://h/", tcp("h", 6379), login(None, None, 0)),
            ("REDIS://127.0.0.1:7000/3", tcp("127.0.0.1", 7000), login(None, None, 3)),
            ("redis://:p%40ss%2F@h", tcp("h", 6379), login(None, Some("p@ss/"), 0)),
            ("redis://u:p@[::1]:7/0", tcp("::1", 7), login(Some("u"), Some("p"), 0)),
            ("redis://u@h", tcp("h", 6379), login(Some("u"), None, 0)),
            // An `@` in a password is understood, since hosts have none.
            ("redis://u:p@ss@h", tcp("h", 6379), login(Some("u"), Some("p@ss"), 0)),
        ] {
            let address = at(url);
            assert_eq!(
                (address.servers, address.login, address.tls),
                (Servers::One(place), expected, false),
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
            assert_eq!(address.servers, Servers::One(Place::Unix("/run/r.sock".into())), "{url}");
            assert_eq!(address.login, expected, "{url}");
        }
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let address =
            Address::parse("redis+sentinel://u:p@a,b:7/shop/4?sentinel_user=su&sentinel_password=sp")
                .unwrap();
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
    fn each_mistake_has_its_own_words() {
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
            let said = match Address::parse(url) {
                Ok(address) => format!("{address:?}"),
                Err(error) => format!("{error:?} {error}"),
            };
            assert!(!said.contains(SECRET), "{said}");
        }
    }

    #[test]
    fn places_as_servers_tell_them() {
        assert_eq!(Place::told("10.0.0.1:7", "h"), Some(tcp("10.0.0.1", 7)));
        assert_eq!(Place::told("::1:7", "h"), Some(tcp("::1", 7)));
        assert_eq!(Place::told(":7", "h"), Some(tcp("h", 7)));
        assert_eq!(Place::told("?:7", "h"), Some(tcp("h", 7)));
        assert_eq!(Place::told("h", "h"), None);
        assert_eq!(tcp("::1", 7).to_string(), "[::1]:7");
    }
}
