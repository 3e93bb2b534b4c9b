//! Missing, damaged and large tables, and sweeps.

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome};
use idem_core::{Effect, Key, ReservationStore, StoreError, StoreErrorKind, StoredValue};
use idem_postgres::{PostgresOptions, PostgresStore};
use test_servers::postgres::Postgres;

use crate::support::{LEASE, Shop, assert_without_effect, completion, key, request, words};

async fn reserve(store: &PostgresStore, key: &Key) -> Result<ReserveOutcome, StoreError> {
    store.reserve(key, request(OwnerToken::random())).await
}

#[tokio::test]
async fn missing_tables_are_misconfigured_and_the_error_says_how_to_create_them() {
    let shop = Shop::open().await;
    shop.server.client().await.batch_execute("DROP TABLE idem_record, idem_record_meta").await.unwrap();
    let error = reserve(&shop.store, &key()).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "schema_sql");
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let shop = Shop::open().await;
    let client = shop.server.client().await;
    client
        .batch_execute("CREATE ROLE weak LOGIN; GRANT SELECT ON idem_record, idem_record_meta TO weak")
        .await
        .unwrap();
    let weak = PostgresStore::connect(&shop.server.url().replace("idem@", "weak@")).await.unwrap();
    let error = reserve(&weak, &key()).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "");
    assert!(words(&error).contains("42501") && words(&error).contains("INSERT"), "{}", words(&error));
}

#[tokio::test]
async fn an_unreadable_record_is_corrupt_for_its_own_key_only() {
    let (broken, sound) = (key(), Key::new("payments", "43").unwrap());
    let breaking = [
        "state = '?'",
        "owner = 'short'",
        "fingerprint = 'short'",
        "lease_until = NULL",
        "lease = NULL",
        "record_ttl = '-1 seconds'",
        "record_ttl = '1 day'",
        "attempt = -1",
        "version = 0",
        "state = 'c'",
        "state = 'c', codec = 1, schema = 1, completed_at = now()",
        "state = 'c', codec = 1, schema = -1, completed_at = now(), body = ''",
        "state = 'c', codec = 999, schema = 1, completed_at = now(), body = ''",
        "state = 'n'",
    ];
    for change in breaking {
        let shop = Shop::open().await;
        assert!(matches!(reserve(&shop.store, &broken).await, Ok(ReserveOutcome::Reserved { .. })));
        assert!(matches!(reserve(&shop.store, &sound).await, Ok(ReserveOutcome::Reserved { .. })));
        let update = format!("UPDATE idem_record SET {change} WHERE name = '42'");
        shop.server.client().await.batch_execute(&update).await.unwrap();
        let error = reserve(&shop.store, &broken).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Corrupt, "");
        assert_eq!(shop.store.get(&broken).await.unwrap_err().kind, StoreErrorKind::Corrupt, "{change}");
        assert!(matches!(reserve(&shop.store, &sound).await, Ok(ReserveOutcome::InFlight { .. })));
    }
}

#[tokio::test]
async fn an_expired_record_of_a_later_version_is_absent_and_swept() {
    let shop = Shop::open().await;
    assert!(matches!(reserve(&shop.store, &key()).await, Ok(ReserveOutcome::Reserved { .. })));
    let client = shop.server.client().await;
    client.batch_execute("UPDATE idem_record SET version = 2, state = '?'").await.unwrap();
    assert_eq!(reserve(&shop.store, &key()).await.unwrap_err().kind, StoreErrorKind::Incompatible);
    let expire = "UPDATE idem_record SET expires_at = now(), sweep_after = now()";
    client.batch_execute(expire).await.unwrap();
    assert!(matches!(reserve(&shop.store, &key()).await, Ok(ReserveOutcome::Reserved { attempt: 1, .. })));
    client.batch_execute("UPDATE idem_record SET version = 2, state = '?'").await.unwrap();
    client.batch_execute(expire).await.unwrap();
    assert_eq!(shop.store.sweep(10).await.unwrap(), 1);
}

#[tokio::test]
async fn expired_records_are_removed_in_the_background() {
    let options = PostgresOptions::new().maintenance_interval(Duration::from_millis(5));
    let shop = Shop::on(Postgres::start_with_clock().await, options).await;
    let request = request(OwnerToken::random()).record_ttl(span(LEASE));
    shop.store.reserve(&key(), request).await.map(drop).unwrap();
    shop.server.clock().forward(LEASE * 3);
    let client = shop.server.client().await;
    while client.query_one("SELECT count(*) FROM idem_record", &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_large_sweep_runs_in_batches_and_removes_everything() {
    let shop = Shop::open().await;
    let client = shop.server.client().await;
    let many = "INSERT INTO idem_record (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
        SELECT decode(md5(n::text), 'hex'), 's', 'n', 1, 'r', '', n, 1, '', now(), now() FROM generate_series(1, 2500) AS n";
    client.batch_execute(many).await.unwrap();
    assert_eq!(shop.store.sweep(1100).await.unwrap(), 1100);
    assert_eq!(shop.store.sweep(usize::MAX).await.unwrap(), 1400);
    let fence = client.query_one("SELECT removed_fence FROM idem_record_meta", &[]).await.unwrap();
    assert_eq!(fence.get::<_, i64>(0), 2500);
}

#[tokio::test]
async fn finding_a_due_record_does_not_read_every_record() {
    let shop = Shop::open().await;
    let client = shop.server.client().await;
    let many = "INSERT INTO idem_record (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
        SELECT decode(md5(n::text), 'hex'), 's', 'n', 1, 'r', '', n, 1, '', 'infinity', now() + '1 hour'
        FROM generate_series(1, 20000) AS n";
    client.batch_execute(many).await.unwrap();
    // With and without statistics.
    for analysed in ["SELECT 1", "ANALYZE idem_record"] {
        client.batch_execute(analysed).await.unwrap();
        let explain = format!("EXPLAIN (ANALYZE) {}", include_str!("../../../src/sql/due.sql"));
        let plan: Vec<String> =
            client.query(&explain, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("idem_record_sweep") && !plan.contains("Removed by Filter"), "{plan}");
    }
}

#[tokio::test]
async fn a_plan_that_was_made_while_the_table_was_small_does_not_scan_it() {
    let options = PostgresOptions::new().maintenance_interval(Duration::from_secs(3600));
    let shop = Shop::open_with(options.clone()).await;
    let client = shop.server.client().await;
    let keys: Vec<_> = (0..20).map(|number| Key::new("payments", format!("{number}")).unwrap()).collect();
    let owner = OwnerToken::random();
    for key in &keys {
        shop.store.reserve(key, request(owner)).await.map(drop).unwrap();
    }
    // From now on the server knows that the table has one page.
    client.batch_execute("VACUUM ANALYZE idem_record").await.unwrap();
    let whole = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'idem_record'";
    let before: i64 = client.query_one(whole, &[]).await.unwrap().get(0);

    let store = PostgresStore::connect_with(&shop.server.url(), options.pool_size(1)).await.unwrap();
    for key in &keys {
        let completion = completion("answer");
        store.complete(key, owner, completion).await.map(drop).unwrap();
        assert!(matches!(reserve(&store, key).await, Ok(ReserveOutcome::Completed { .. })));
    }
    // From Postgres 15 on, the counts of a session are complete once it has ended.
    let connection = deadpool_postgres::Object::take(store.pool().get().await.unwrap());
    let session: i32 = connection.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    drop(connection);
    let is_there = "SELECT FROM pg_stat_activity WHERE pid = $1";
    while client.query_opt(is_there, &[&session]).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(client.query_one(whole, &[]).await.unwrap().get::<_, i64>(0), before);
}

#[tokio::test]
async fn concurrent_sweeps_keep_the_greatest_fence() {
    let shop = Shop::open().await;
    let client = shop.server.client().await;
    let many = "INSERT INTO idem_record (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
        SELECT decode(md5(n::text), 'hex'), 's', 'n', 1, 'r', '', n, 1, '', now(), now() - n * interval '1 ms'
        FROM generate_series(1, 2000) AS n";
    client.batch_execute(many).await.unwrap();
    let mut sweeps = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = shop.store.clone();
        sweeps.spawn(async move {
            let mut removed = 0;
            for _ in 0..200 {
                removed += store.sweep(7).await.unwrap();
            }
            removed
        });
    }
    let removed: usize = sweeps.join_all().await.into_iter().sum();
    assert_eq!(removed + shop.store.sweep(usize::MAX).await.unwrap(), 2000);
    let fence = client.query_one("SELECT removed_fence FROM idem_record_meta", &[]).await.unwrap();
    assert_eq!(fence.get::<_, i64>(0), 2000);
}

#[tokio::test]
async fn an_answer_longer_than_postgres_can_return_is_too_large_at_any_setting() {
    let shop = Shop::open_with(PostgresOptions::new().max_answer_bytes(usize::MAX)).await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner)).await.map(drop).unwrap();
    let answer = StoredValue::bytes(vec![0; 1 << 30]);
    let error = shop.store.complete(&key(), owner, Completion::new(answer, span(LEASE))).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::TooLarge, "");
}

#[tokio::test]
async fn columns_of_other_types_are_misconfigured() {
    for change in ["ALTER COLUMN key TYPE text USING 'x'", "RENAME COLUMN fence TO token", "DROP COLUMN body"]
    {
        let shop = Shop::open().await;
        let change = format!("ALTER TABLE idem_record {change}");
        shop.server.client().await.batch_execute(&change).await.unwrap();
        let error = reserve(&shop.store, &key()).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "schema_sql");
    }
}

#[tokio::test]
async fn an_unreadable_reservation_has_an_unknown_effect() {
    let shop = Shop::open().await;
    for outcome in ["ARRAY[-1, 60000000]", "ARRAY[1]", "ARRAY[1, NULL]", "'{}'::bigint[]"] {
        let change = format!(
            "CREATE OR REPLACE FUNCTION idem_record_insert(bytea, bytea, bytea, bytea, bytea, interval, interval)
             RETURNS bigint[] LANGUAGE sql AS $$ SELECT {outcome} $$"
        );
        shop.server.client().await.batch_execute(&change).await.unwrap();
        let error = reserve(&shop.store, &key()).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Corrupt, Effect::Unknown), "{outcome}");
    }
}

#[tokio::test]
async fn an_unreadable_takeover_or_renewal_has_an_unknown_effect() {
    let shop = Shop::open().await;
    let owner = OwnerToken::random();
    shop.store.reserve(&key(), request(owner)).await.map(drop).unwrap();
    let client = shop.server.client().await;
    client.batch_execute("ALTER TABLE idem_record ALTER COLUMN attempt TYPE int").await.unwrap();
    let error = shop.store.renew(&key(), owner, span(LEASE)).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Corrupt, Effect::Unknown));
    // That column of an expired record of a later version is not read before the takeover.
    client.batch_execute("UPDATE idem_record SET version = 2, expires_at = now()").await.unwrap();
    let error = reserve(&shop.store, &key()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Corrupt, Effect::Unknown));
}

#[tokio::test]
async fn after_the_last_fence_nothing_is_reserved_and_the_error_says_why() {
    let shop = Shop::open().await;
    let client = shop.server.client().await;
    let last = "UPDATE idem_record_meta SET removed_fence = 9007199254740991";
    client.batch_execute(last).await.unwrap();
    let error = reserve(&shop.store, &key()).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(words(&error).contains("used up"), "{}", words(&error));
    assert!(shop.store.get(&key()).await.unwrap().is_none());
    // No tombstone is written either.
    let error = shop.store.release(&key(), OwnerToken::random()).await.unwrap_err();
    assert_eq!(error.effect, Effect::NotApplied);
    assert!(words(&error).contains("used up"), "{}", words(&error));
}
