//! How a store is opened: by a URL, or over a pool of the user's.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use idem_core::{Effect, Operation, StoreError, StoreErrorKind};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Config, NoTls, Socket};

use crate::error::Cause;
use crate::guards::Guards;
use crate::names::Names;
use crate::statement::SqlTexts;
use crate::store::Inner;
use crate::{Options, PostgresStore, keeper, schema};

/// How long sent bytes may stay unacknowledged before the connection counts as lost, unless the URL says otherwise
/// (`tcp_user_timeout`): a link that has fallen silent is noticed, and not only after hours.
const SILENT_LINK: Duration = Duration::from_secs(30);

impl PostgresStore {
    /// Connects with the default [`Options`], to a URL of libpq's kind: `postgres://user:password@host/database`, with
    /// several hosts, `target_session_attrs=read-write` and what else [`tokio_postgres::Config`] knows.
    ///
    /// With `sslmode=require`, `verify-ca` or `verify-full` the connection is encrypted and the server's certificate
    /// verified against the system's roots, its name too: all three are libpq's `verify-full`. It needs the feature
    /// `rustls`. Without one of them, `prefer` included, TLS is not used. `sslrootcert` and the like are not known: other
    /// roots and client certificates are [`connect_tls`](Self::connect_tls)'s.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::connect_with(url, Options::new()).await
    }

    /// Connects to a URL.
    ///
    /// Fails as `Misconfigured` if the URL, the role's rights, the tables or the kind of server are wrong, as
    /// `Unavailable` if nobody answers, and as `Incompatible` if a later release made the tables.
    pub async fn connect_with(url: &str, options: Options) -> Result<Self, StoreError> {
        let config = parsed(url)?;
        if config.get_ssl_mode() == SslMode::Require {
            #[cfg(feature = "rustls")]
            return connect(config, options, crate::tls::with_system_roots()?).await;
            #[cfg(not(feature = "rustls"))]
            return Err(Cause::NoTls.of(Operation::Connect));
        }
        connect(config, options, NoTls).await
    }

    /// [`connect_with`](Self::connect_with), over TLS by a connector of the caller's choice: other roots, client
    /// certificates, another library.
    pub async fn connect_tls<T>(url: &str, options: Options, tls: T) -> Result<Self, StoreError>
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send + Sync,
        T::TlsConnect: Send + Sync,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        connect(parsed(url)?, options, tls).await
    }

    /// A store over a pool of the caller's. `pool_size` and `connect_timeout` are the pool's own then.
    ///
    /// Its connections are used as they are: no setting of a session is changed. So they have to come back to it as they
    /// were, above all not in an open transaction: what the store writes in that is undone with it, and nobody is told.
    pub async fn from_pool(pool: Pool, options: Options) -> Result<Self, StoreError> {
        let names =
            Names::new(&options.schema, &options.table).map_err(|cause| cause.of(Operation::Connect))?;
        let sql = SqlTexts::new(&names);
        let inner = Arc::new(Inner {
            pool,
            options,
            names,
            sql,
            guards: Guards::default(),
            notices_clients: OnceLock::new(),
            looks_apart: AtomicBool::new(false),
        });
        schema::prepare(&inner).await?;
        keeper::start(&inner);
        Ok(Self { inner })
    }

    /// The pool that the store uses.
    pub fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    /// The SQL that makes the tables and their functions with the names of these options, for those who keep their migrations elsewhere. It
    /// can be applied again.
    ///
    /// ```
    /// use idem_postgres::{Options, PostgresStore};
    ///
    /// let sql = PostgresStore::schema_sql(&Options::new().schema("shop"))?;
    /// assert!(sql.contains(r#"CREATE TABLE IF NOT EXISTS "shop"."idem_record""#));
    /// # Ok::<(), idem_core::StoreError>(())
    /// ```
    pub fn schema_sql(options: &Options) -> Result<String, StoreError> {
        let names =
            Names::new(&options.schema, &options.table).map_err(|cause| cause.of(Operation::Connect))?;
        Ok(schema::sql(&names))
    }
}

fn parsed(url: &str) -> Result<Config, StoreError> {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let config = without_verify(url).parse::<Config>().ok().filter(|_| is_url);
    config.ok_or_else(|| Cause::NotAPostgresUrl.of(Operation::Connect))
}

/// libpq has two modes beyond `require`, which say how much of a certificate is verified. Here it is always all of it.
fn without_verify(url: &str) -> String {
    let Some((address, settings)) = url.split_once('?') else { return url.to_owned() };
    let settings = settings.split('&').map(|setting| match setting {
        "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
        other => other,
    });
    format!("{address}?{}", settings.collect::<Vec<_>>().join("&"))
}

async fn connect<T>(mut config: Config, options: Options, tls: T) -> Result<PostgresStore, StoreError>
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
        config.tcp_user_timeout(SILENT_LINK);
    }
    if config.get_application_name().is_none() {
        config.application_name("idem");
    }
    // The store leaves every connection as it found it, so that nothing has to be asked before one is used again.
    let manager =
        Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    let pool = Pool::builder(manager)
        .max_size(options.pool_size.max(1))
        .create_timeout(Some(options.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, Operation::Connect)
                .with_source(error)
        })?;
    PostgresStore::from_pool(pool, options).await
}
