//! Logs in, selects the database and names the client, in one round trip.

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::address::Login;

/// Logs in. The client library would report that a login failed but not why, and some reasons are temporary: too many
/// clients, a busy server.
pub(super) async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    login: &Login,
) -> RedisResult<()> {
    let mut commands = redis::pipe();
    if let Some(password) = &login.password {
        commands.cmd("AUTH").arg(login.user.as_ref()).arg(password);
    }
    if login.db != 0 {
        commands.cmd("SELECT").arg(login.db);
    }
    let required = commands.len();
    // For `CLIENT LIST`. Servers that do not know this, or do not allow it, answer with an error that makes no difference.
    commands.cmd("CLIENT").arg("SETINFO").arg("LIB-NAME").arg("idem-redis");
    commands.cmd("CLIENT").arg("SETINFO").arg("LIB-VER").arg(env!("CARGO_PKG_VERSION"));
    // A server that refuses the connection answers without reading, so its answer is read even if the write fails.
    let written = stream.write_all(&commands.get_packed_pipeline()).await.and(stream.flush().await);
    #[allow(clippy::default_trait_access, reason = "the type is of a crate that this one does not depend on")]
    let mut decoder = Default::default();
    for number in 0..commands.len() {
        let answer = match redis::parse_redis_value_async(&mut decoder, stream).await {
            Ok(answer) => answer.extract_error(),
            // The peer is not a Redis server.
            Err(error) if error.kind() == ErrorKind::Parse => return Err(error),
            Err(error) => {
                written?;
                return Err(error);
            }
        };
        match answer {
            Err(error) if number < required || is_refusal(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the server refused the connection and carries out no command.
fn is_refusal(error: &RedisError) -> bool {
    error.code() == Some("DENIED")
        || error.detail().is_some_and(|detail| detail.contains("max number of clients"))
}
