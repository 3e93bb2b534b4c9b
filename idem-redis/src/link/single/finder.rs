//! [`Finder`]: which server a link connects to.

use std::io;

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};

use crate::address::{Endpoint, Login};
use crate::link::dial::{Dialer, Dialled};
use crate::link::sentinel::Sentinels;

/// Which server a link connects to.
pub(crate) enum Finder {
    /// Always this one. Its role is asked each time, because a name may lead to another machine after a failover.
    Fixed { endpoint: Endpoint, login: Login },
    /// A node of a Cluster. Its role is not asked: a replica redirects.
    Node { endpoint: Endpoint, login: Login },
    /// The one that Sentinel names.
    Sentinel(Sentinels),
}

impl Finder {
    /// Connects to the server.
    pub(super) async fn dial(&self, dialer: &Dialer) -> RedisResult<(Endpoint, Dialled)> {
        match self {
            Self::Node { endpoint, login } => Ok((endpoint.clone(), dialer.dial(endpoint, login).await?)),
            Self::Fixed { endpoint, login } => {
                Ok((endpoint.clone(), dial_master(dialer, endpoint, login).await?))
            }
            Self::Sentinel(sentinels) => {
                let (endpoint, epoch) = sentinels.master().await?;
                let dialled = dial_master(dialer, &endpoint, sentinels.server_login()).await?;
                if sentinels.have_moved_on_from(epoch) {
                    return Err((ErrorKind::Io, "there was a failover while the link connected").into());
                }
                Ok((endpoint, dialled))
            }
        }
    }
}

/// Connects to a server and makes sure that it is a master.
async fn dial_master(dialer: &Dialer, endpoint: &Endpoint, login: &Login) -> RedisResult<Dialled> {
    let (mut connection, mut driver) = dialer.dial(endpoint, login).await?;
    let role = redis::cmd("ROLE");
    let role = tokio::select! {
        role = connection.send_packed_command(&role) => role?,
        () = &mut driver => return Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
    };
    match role {
        Value::Array(role) if matches!(role.first(), Some(Value::BulkString(role)) if role != b"master") => {
            Err(RedisError::from((
                ErrorKind::Server(ServerErrorKind::ReadOnly),
                "the server is a replica; only its master accepts writes",
                endpoint.to_string(),
            )))
        }
        Value::ServerError(error) if error.code() == "NOAUTH" => Err(error.into()),
        // If the user may not ask (`NOPERM`), the first write shows it.
        _ => Ok((connection, driver)),
    }
}
