//! How a store is opened: with a URL, or over a pool of the caller.

use std::sync::Arc;

use deadpool_postgres::Pool;
use idem_core::{Operation, StoreError};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{NoTls, Socket};

use crate::error::Cause;
use crate::sql::{InvalidName, Names};
use crate::store::StoreInner;
use crate::{PostgresOptions, PostgresStore, connection, maintenance, schema};

impl PostgresStore {
    /// Connects to a URL with the default [`PostgresOptions`].
    ///
    /// The URL has the form of libpq, `postgres://user:password@host/database`, with any parameter that
    /// [`tokio_postgres::Config`] knows; it may list several hosts.
    ///
    /// TLS: with `sslmode=require`, `verify-ca` or `verify-full` the connection is encrypted, and the server's certificate
    /// and host name are verified against the system's roots; all three do what libpq calls `verify-full`. They need the
    /// feature `rustls`. With any other mode, also `prefer`, TLS is not used. `sslrootcert` and similar parameters are not
    /// supported: for other roots or client certificates use [`connect_tls`](Self::connect_tls).
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, PostgresOptions::new()).await
    }

    /// Connects to a URL.
    ///
    /// Fails as `Misconfigured` if the URL, the role's rights, the tables or the kind of server are wrong, as `Unavailable`
    /// if no server answers, and as `Incompatible` if a later release created the tables.
    pub async fn connect_with(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let config = connection::parse(url)?;
        let pool = if config.get_ssl_mode() == SslMode::Require {
            #[cfg(feature = "rustls")]
            {
                connection::build(config, &options, connection::with_system_roots()?)?
            }
            #[cfg(not(feature = "rustls"))]
            return Err(Cause::NoTls.into_store_error(Operation::Connect));
        } else {
            connection::build(config, &options, NoTls)?
        };
        Self::from_pool(pool, options).await
    }

    /// Connects to a URL over TLS with a connector of the caller, for other roots, client certificates or another TLS
    /// library.
    pub async fn connect_tls<T>(url: &str, options: PostgresOptions, tls: T) -> Result<Self, StoreError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let pool = connection::build(connection::parse(url)?, &options, tls)?;
        Self::from_pool(pool, options).await
    }

    /// Opens a store over a pool of the caller. The pool's own settings replace `pool_size` and `connect_timeout`.
    ///
    /// The store changes no setting of a session. Return connections to the pool as they were, above all not with an open
    /// transaction: what the store writes in that transaction is silently undone with it.
    pub async fn from_pool(pool: Pool, options: PostgresOptions) -> Result<Self, StoreError> {
        let inner = Arc::new(StoreInner::new(pool, options).map_err(refused)?);
        schema::prepare(&inner).await?;
        maintenance::start(&inner);
        Ok(Self { inner })
    }

    /// The SQL that creates the tables and functions with the names in these options, for your own migration tool.
    ///
    /// It can be applied again: existing tables stay as they are. Connecting does the same unless
    /// [`create_schema`](PostgresOptions::create_schema) is off.
    ///
    /// ```
    /// use idem_postgres::{PostgresOptions, PostgresStore};
    ///
    /// let sql = PostgresStore::schema_sql(&PostgresOptions::new().schema("shop"))?;
    /// assert!(sql.contains(r#"CREATE TABLE IF NOT EXISTS "shop"."idem_record""#));
    /// # Ok::<(), idem_core::StoreError>(())
    /// ```
    pub fn schema_sql(options: &PostgresOptions) -> Result<String, StoreError> {
        Ok(schema::sql(&Names::new(&options.schema, &options.table).map_err(refused)?))
    }
}

fn refused(name: InvalidName) -> StoreError {
    Cause::Name(name).into_store_error(Operation::Connect)
}
