//! The pool, and statements on its connections.

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType,
};
use idem_core::{Operation, StoreError};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, Row, Socket};

use crate::error::{Cause, Failure, setup_error};
use crate::options::{PostgresOptions, Statements};
use crate::sql::{Parameter, Statement};

/// How long sent bytes may stay unacknowledged before the connection counts as lost, unless the URL sets
/// `tcp_user_timeout`. Without it, a link that fell silent would be noticed only after hours.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings in a `postgres://` URL.
pub(crate) fn parse(url: &str) -> Result<Config, StoreError> {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let config = without_verify_modes(url).parse::<Config>().ok().filter(|_| is_url);
    config.ok_or_else(|| Cause::NotAPostgresUrl.into_store_error(Operation::Connect))
}

/// libpq has two modes above `require`, which say how much of a certificate is verified. This store always verifies all
/// of it, and tokio-postgres does not know them.
fn without_verify_modes(url: &str) -> String {
    let Some((address, parameters)) = url.split_once('?') else { return url.to_owned() };
    let parameters = parameters.split('&').map(|parameter| match parameter {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        other => other,
    });
    format!("{address}?{}", parameters.collect::<Vec<_>>().join("&"))
}

/// A pool of connections with these settings.
pub(crate) fn build<T>(mut config: Config, options: &PostgresOptions, tls: T) -> Result<Pool, StoreError>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + Sync,
    T::TlsConnect: Send + Sync,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(options.connect_timeout);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("idem");
    }
    // The store leaves each connection as it found it, so that no check is needed before the next use.
    let manager =
        Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager)
        .max_size(options.pool_size.max(1))
        .create_timeout(Some(options.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(setup_error)
}

/// Takes a connection from the pool, which opens one if none is idle.
pub(super) async fn acquire(pool: &Pool, timeout: Duration) -> Result<Object, Failure> {
    // Not with the pool's own timeouts: a user's pool may have been built without a runtime for them.
    match tokio::time::timeout(timeout, pool.get()).await {
        Ok(object) => object.map_err(Failure::Pool),
        Err(_elapsed) => {
            let status = pool.status();
            // Connections that are being opened are not in `size`.
            let is_exhausted = status.size >= status.max_size;
            let waited_for = if is_exhausted { TimeoutType::Wait } else { TimeoutType::Create };
            Err(Failure::Pool(PoolError::Timeout(waited_for)))
        }
    }
}

/// Closes a connection; the pool may open another in its place.
pub(super) fn close(connection: Object) {
    drop(Object::take(connection));
}

/// Runs a statement to its end.
pub(super) async fn run(
    connection: &Object,
    statements: Statements,
    statement: &Statement,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Row>, Failure> {
    match statements {
        Statements::Unnamed => {
            let parameters = statement.with_types(parameters);
            connection.query_typed(&statement.sql, &parameters).await.map_err(Failure::Sent)
        }
        Statements::Prepared => {
            // Preparing a statement has no effect, whether it succeeds or not.
            let prepared = connection
                .prepare_typed_cached(&statement.sql, statement.types)
                .await
                .map_err(Failure::Unsent)?;
            connection.query(&prepared, parameters).await.map_err(Failure::Sent)
        }
    }
}
