//! [`Address`]: where the server is, read from a URL.

use redis::ConnectionInfo;
use redis::IntoConnectionInfo;
use thiserror::Error;

/// A server, and the login for it.
#[derive(Clone)]
pub(crate) struct Address(pub(crate) ConnectionInfo);

/// Why a URL is none of ours. It does not show the URL, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the URL of a Redis store is redis://[user:password@]host[:port][/db], or redis+unix:/path")]
pub(crate) struct AddressError;

impl Address {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let url = match url.strip_prefix("redis+unix:") {
            Some(path) if !path.starts_with("//") => format!("redis+unix://{path}"),
            _ => url.to_owned(),
        };
        url.into_connection_info().map(Self).map_err(|_| AddressError)
    }
}
