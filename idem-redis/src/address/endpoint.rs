//! [`Endpoint`] and [`Login`]: one server, and how to log in to it.

use std::fmt;
use std::path::PathBuf;

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// The user that a connection logs in as, and the database that it selects.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
}

impl Endpoint {
    /// Reads `host:port` as servers write it: an IPv6 address has no brackets, and an empty host or `?` stands for
    /// `same_host`.
    pub(crate) fn from_server(text: &str, same_host: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() || host == "?" { same_host } else { host };
        Some(Self::Tcp { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// The host; `localhost` for a socket.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            Self::Unix(_) => "localhost",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Hides the password, and the user: some providers take their token as the user's name.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password, db } = self;
        f.debug_struct("Login")
            .field("user", &user.as_ref().map(|_| "..."))
            .field("password", &password.as_ref().map(|_| "..."))
            .field("db", db)
            .finish()
    }
}
