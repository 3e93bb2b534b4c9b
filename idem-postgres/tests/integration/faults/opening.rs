//! What a store checks when it connects.

use std::sync::{Arc, Mutex};

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{Effect, ReservationStore, StoreError, StoreErrorKind};
use idem_postgres::{PostgresOptions, PostgresStore};
use test_servers::postgres::Postgres;

use crate::support::{assert_without_effect, completion, key, request, words};

async fn refused(url: &str, options: PostgresOptions) -> StoreError {
    PostgresStore::connect_with(url, options).await.unwrap_err()
}

async fn works(store: &PostgresStore) {
    let reserved = store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }));
}

#[tokio::test]
async fn an_invalid_url_is_refused_and_not_shown() {
    for url in [
        "",
        "redis://:a-secret@host",
        "postgres://user:a-secret@host:port/db",
        "postgres://user:a-secret@host/db?no-such-setting=1",
        "host=localhost password=a-secret",
    ] {
        let error = refused(url, PostgresOptions::new()).await;
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
        assert!(!words(&error).contains("a-secret"), "{}", words(&error));
    }
}

#[tokio::test]
async fn a_missing_role_or_database_is_misconfigured() {
    let server = Postgres::start().await;
    for url in
        [server.url().replace("idem@", "nobody:a-secret@"), server.url().replace("/postgres", "/nothing")]
    {
        let error = refused(&url, PostgresOptions::new()).await;
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
        assert!(!words(&error).contains("a-secret"), "{}", words(&error));
    }
}

#[tokio::test]
async fn any_name_can_be_chosen_and_none_is_injected() {
    let server = Postgres::start().await;
    let client = server.client().await;
    client.batch_execute("CREATE TABLE precious ()").await.unwrap();
    for (schema, table) in [
        ("shop", "idem"),
        ("Shop", "Idem Record"),
        ("x\"; DROP TABLE precious; --", "y\"; DROP TABLE precious; --"),
        ("x$body$; DROP TABLE precious; --", "y$body_$; DROP TABLE precious; --"),
        ("select", "table"),
        ("public", &*"t".repeat(47)),
    ] {
        let options = PostgresOptions::new().schema(schema).table(table);
        works(&PostgresStore::connect_with(&server.url(), options.clone()).await.unwrap()).await;
        // Again, with tables that exist.
        let again = PostgresStore::connect_with(&server.url(), options).await.unwrap();
        assert!(again.get(&key()).await.unwrap().is_some());
        let count = "SELECT count(*)::int FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname = $1 AND relname LIKE left($2, 20) || '%'";
        let found: i32 = client.query_one(count, &[&schema, &table]).await.unwrap().get(0);
        assert_eq!(found, 5, "{schema} {table}");
    }
    // Not even in a comment, which a line break would end.
    let wrong = [
        "t".repeat(48),
        "x\n;DROP TABLE IF EXISTS precious;--".to_owned(),
        "x\r;DROP TABLE precious;--".to_owned(),
    ];
    for table in wrong {
        let options = PostgresOptions::new().table(table);
        assert_eq!(refused(&server.url(), options.clone()).await.kind, StoreErrorKind::Misconfigured);
        assert!(PostgresStore::schema_sql(&options).is_err());
    }
    client.batch_execute("SELECT FROM precious").await.unwrap();
}

#[tokio::test]
async fn tables_created_by_the_users_tool_need_no_right_to_create() {
    let server = Postgres::start().await;
    let client = server.client().await;
    let options = PostgresOptions::new().schema("shop").create_schema(false);
    let error = refused(&server.url(), options.clone()).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "schema_sql");

    client.batch_execute("CREATE SCHEMA shop").await.unwrap();
    client.batch_execute(&PostgresStore::schema_sql(&options).unwrap()).await.unwrap();
    let rights = "CREATE ROLE service LOGIN; GRANT USAGE ON SCHEMA shop TO service;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO service";
    client.batch_execute(rights).await.unwrap();
    let url = server.url().replace("idem@", "service@");
    works(&PostgresStore::connect_with(&url, options).await.unwrap()).await;

    let error = refused(&url, PostgresOptions::new().schema("another")).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "42501");
}

#[tokio::test]
async fn missing_functions_are_created_or_asked_for() {
    let server = Postgres::start().await;
    let client = server.client().await;
    for function in ["idem_record_insert", "idem_record_reserve", "idem_record_complete"] {
        drop(PostgresStore::connect(&server.url()).await.unwrap());
        client.batch_execute(&format!("DROP FUNCTION {function}")).await.unwrap();
        let error = refused(&server.url(), PostgresOptions::new().create_schema(false)).await;
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "functions");
    }
    works(&PostgresStore::connect(&server.url()).await.unwrap()).await;

    // If another role has created the functions, a role that may not replace them can connect.
    let rights = "CREATE ROLE service LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO service";
    client.batch_execute(rights).await.unwrap();
    let url = server.url().replace("idem@", "service@");
    assert!(PostgresStore::connect(&url).await.unwrap().get(&key()).await.unwrap().is_some());
    client.batch_execute("REVOKE EXECUTE ON FUNCTION idem_record_complete FROM PUBLIC").await.unwrap();
    let store = PostgresStore::connect(&url).await.unwrap();
    let completion = completion("answer");
    let error = store.complete(&key(), OwnerToken::random(), completion).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "EXECUTE");
}

#[tokio::test]
async fn functions_of_other_tables_are_not_used() {
    let server = Postgres::start().await;
    let client = server.client().await;
    let (old, new) = (PostgresOptions::new().schema("old"), PostgresOptions::new().schema("new"));
    let store = PostgresStore::connect_with(&server.url(), old.clone()).await.unwrap();
    let owner = OwnerToken::random();
    store.reserve(&key(), request(owner)).await.map(drop).unwrap();
    store.complete(&key(), owner, completion("paid")).await.map(drop).unwrap();
    client.batch_execute("ALTER SCHEMA old RENAME TO new").await.unwrap();
    // Another store's tables, which the functions in `new` contain.
    drop(PostgresStore::connect_with(&server.url(), old).await.unwrap());

    let error = refused(&server.url(), new.clone().create_schema(false)).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "functions");
    let store = PostgresStore::connect_with(&server.url(), new.clone()).await.unwrap();
    let outcome = store.reserve(&key(), request(OwnerToken::random())).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Completed { .. }), "{outcome:?}");

    // Other line endings do not count as another body.
    let applied = PostgresStore::schema_sql(&new).unwrap().replace('\n', "\r\n");
    client.batch_execute(&applied).await.unwrap();
    PostgresStore::connect_with(&server.url(), new.create_schema(false)).await.unwrap();
}

#[tokio::test]
async fn objects_earlier_in_the_search_path_are_not_used() {
    let server = Postgres::start().await;
    let trap = "CREATE SCHEMA trap;
        CREATE TABLE trap.idem_record (key bytea); CREATE TABLE trap.idem_record_meta (id int);
        CREATE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$;
        CREATE FUNCTION trap.date_trunc(text, timestamptz, text) RETURNS timestamptz LANGUAGE sql AS $$ SELECT NULL::timestamptz $$;
        ALTER ROLE idem SET search_path = trap, pg_catalog, public";
    server.client().await.batch_execute(trap).await.unwrap();
    let store = PostgresStore::connect(&server.url()).await.unwrap();
    works(&store).await;
    assert!(store.get(&key()).await.unwrap().is_some());
    assert_eq!(store.sweep(10).await.unwrap(), 0);
}

#[tokio::test]
async fn later_tables_are_incompatible_and_tables_without_a_version_are_refused() {
    let server = Postgres::start().await;
    drop(PostgresStore::connect(&server.url()).await.unwrap());
    let client = server.client().await;
    client.batch_execute("UPDATE idem_record_meta SET version = 2").await.unwrap();
    let error = refused(&server.url(), PostgresOptions::new()).await;
    assert_without_effect(&error, StoreErrorKind::Incompatible, "");
    client.batch_execute("DELETE FROM idem_record_meta").await.unwrap();
    assert_eq!(refused(&server.url(), PostgresOptions::new()).await.kind, StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_read_only_role_is_reported_at_connect_and_later() {
    let server = Postgres::start().await;
    let store =
        PostgresStore::connect_with(&server.url(), PostgresOptions::new().pool_size(1)).await.unwrap();
    server
        .client()
        .await
        .batch_execute("ALTER ROLE idem SET default_transaction_read_only = on")
        .await
        .unwrap();
    let error = refused(&server.url(), PostgresOptions::new()).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "default_transaction_read_only");

    // The store's next session begins after the change.
    drop(deadpool_postgres::Object::take(store.pool().get().await.unwrap()));
    let request = request(OwnerToken::random());
    let error = store.reserve(&key(), request).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Unavailable, "25006");
}

#[tokio::test]
async fn a_standby_is_refused() {
    let primary = Postgres::start_with(&["wal_level=replica", "max_wal_senders=3"]).await;
    drop(PostgresStore::connect(&primary.url()).await.unwrap());
    let standby = primary.standby().await;
    let error = refused(&standby.url(), PostgresOptions::new()).await;
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "standby");
}

#[tokio::test]
async fn settings_that_weaken_the_promises_are_warned_about() {
    let server = Postgres::start_with(&["synchronous_commit=off"]).await;
    drop(PostgresStore::connect(&server.url()).await.unwrap());
    server.client().await.batch_execute("ALTER TABLE idem_record SET UNLOGGED").await.unwrap();

    let said = Said::default();
    let writer = said.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _default = tracing::subscriber::set_default(subscriber);
    drop(PostgresStore::connect(&server.url()).await.unwrap());
    let said = said.text();
    for word in ["synchronous_commit is off", "fsync is off", "UNLOGGED"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// What was written to the log.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_url_that_asks_for_tls_gets_tls_or_an_error() {
    let server = Postgres::start().await;
    // Each mode verifies the whole certificate.
    for mode in ["require", "verify-ca", "verify-full", "verify-full&connect_timeout=3"] {
        let error = refused(&format!("{}?sslmode={mode}", server.url()), PostgresOptions::new()).await;
        assert_eq!(error.effect, Effect::NotApplied);
        let says = if cfg!(feature = "rustls") { "TLS" } else { "feature `rustls`" };
        assert!(words(&error).contains(says), "{}", words(&error));
    }
}

#[cfg(feature = "rustls")]
#[tokio::test]
async fn over_tls_the_servers_certificate_is_verified() {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use test_servers::CertificateAuthority;

    let authority = CertificateAuthority::new();
    let server = Postgres::start_with_tls(&authority).await;
    let url = format!("{}?sslmode=verify-full", server.url());

    // The system does not trust this authority.
    let error = refused(&url, PostgresOptions::new()).await;
    assert_without_effect(&error, StoreErrorKind::Unavailable, "");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(config);
    let store = PostgresStore::connect_tls(&url, PostgresOptions::new(), tls).await.unwrap();
    works(&store).await;
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'idem'";
    let count: i64 = server.client().await.query_one(encrypted, &[]).await.unwrap().get(0);
    assert!(count > 0);
}
