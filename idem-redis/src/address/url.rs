//! Reads a URL. [`RedisStore::connect_with`](crate::RedisStore::connect_with) lists the forms.
//!
//! - INV-1: no error and no `Debug` output of this module contains a part of the URL, because any part may be the
//!   password: an unencoded `/` or `@` in it moves it to another part.

use std::net::Ipv6Addr;

use thiserror::Error;

use super::endpoint::{Endpoint, Login};

const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// Servers, and the login for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) servers: Servers,
    pub(crate) tls: bool,
    pub(crate) login: Login,
}

/// How to find the server that a record is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    One(Endpoint),
    Sentinel { sentinels: Vec<Endpoint>, service: String, login: Login },
    Cluster(Vec<Endpoint>),
}

/// Why a URL is not one of a store. See INV-1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum AddressError {
    #[error(
        "the URL of a Redis store begins with redis://, redis+unix:, redis+sentinel:// or redis+cluster:// (with TLS: \
         rediss..; valkey.. is the same)"
    )]
    Scheme,
    #[error("this build has no TLS; enable the feature `rustls` of idem-redis")]
    NoTls,
    #[error("the URL has no host; write scheme://[user:password@]host[:port]")]
    NoHost,
    #[error(
        "a host of the URL is not host or host:port; if the password contains one of / @ : ? # % , percent-encode it"
    )]
    Host,
    #[error("only redis+sentinel:// and redis+cluster:// take several hosts; one server has one host")]
    SeveralHosts,
    #[error("user and password must be percent-encoded UTF-8: write % only before two hexadecimal digits")]
    Encoding,
    #[error("the path of the URL must be the number of a database, /0 for example")]
    Database,
    #[error("a Cluster has one database; leave its number out of the URL")]
    ClusterDatabase,
    #[error(
        "the path of a Sentinel URL must be the name that the Sentinels have for the master: \
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
        // A fragment has no use here, so a `#` can only be an unencoded one of the password.
        if rest.contains('#') {
            return Err(AddressError::Host);
        }
        let (servers, login) = match kind {
            "unix" if !tls => socket(rest)?,
            "" => one(Parts::parse(rest)?)?,
            "sentinel" => sentinel(Parts::parse(rest)?)?,
            "cluster" => cluster(Parts::parse(rest)?)?,
            _ => return Err(AddressError::Scheme),
        };
        Ok(Self { servers, tls, login })
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
    fn parse(rest: &'u str) -> Result<Self, AddressError> {
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
        // The slash was the password's.
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
    Ok((Servers::One(endpoint(host, SERVER_PORT)?), parts.login))
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
    let sentinels = endpoints(&parts.hosts, SENTINEL_PORT)?;
    Ok((Servers::Sentinel { sentinels, service, login }, parts.login))
}

fn cluster(parts: Parts<'_>) -> Result<(Servers, Login), AddressError> {
    if !parts.query.is_empty() {
        return Err(AddressError::Parameter("none"));
    }
    match parts.path[..] {
        [] | ["0"] => Ok((Servers::Cluster(endpoints(&parts.hosts, SERVER_PORT)?), parts.login)),
        _ => Err(AddressError::ClusterDatabase),
    }
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
    Ok((Servers::One(Endpoint::Unix(decoded(path)?.into())), login))
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

fn endpoints(hosts: &[&str], port: u16) -> Result<Vec<Endpoint>, AddressError> {
    hosts.iter().map(|host| endpoint(host, port)).collect()
}

fn endpoint(text: &str, default: u16) -> Result<Endpoint, AddressError> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']').ok_or(AddressError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| AddressError::Host)?;
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(AddressError::Host)?) })
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_allowed) {
        return Err(AddressError::Host);
    }
    let port = match port {
        None => default,
        Some(port) => port.parse().map_err(|_| AddressError::Host)?,
    };
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

/// Undoes percent-encoding.
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
