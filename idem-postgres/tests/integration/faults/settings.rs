//! Roles and databases with other settings than the defaults.

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{
    AbandonOutcome, Admission, CompleteOutcome, Engine, Key, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoredValue,
};
use idem_postgres::{PostgresOptions, PostgresStore, ReservationExt};
use test_servers::postgres::Postgres;

use crate::support::{DAY, LEASE, completion, payload, request};

/// A store that connects after these statements.
async fn under(settings: &str) -> (Postgres, PostgresStore) {
    let server = Postgres::start_with_clock().await;
    drop(PostgresStore::connect(&server.url()).await.unwrap());
    server.client().await.batch_execute(settings).await.unwrap();
    let options = PostgresOptions::new().maintenance_interval(Duration::from_secs(3600));
    let store = PostgresStore::connect_with(&server.url(), options).await.unwrap();
    (server, store)
}

async fn reserve(store: &PostgresStore, key: &Key, owner: OwnerToken) -> ReserveOutcome {
    store.reserve(key, request(owner).record_ttl(span(LEASE))).await.unwrap()
}

fn is_attempt(outcome: &ReserveOutcome, number: u32) -> bool {
    matches!(outcome, ReserveOutcome::Reserved { attempt, .. } if *attempt == number)
}

/// Checks that every operation works as usual.
async fn works(server: &Postgres, store: &PostgresStore) {
    let [first, second] = [OwnerToken::random(), OwnerToken::random()];
    let [key, absent, done] = ["key", "absent", "done"].map(|name| Key::new("settings", name).unwrap());
    // The record of another owner, which must stay unchanged.
    let bystander = Key::new("settings", "bystander").unwrap();
    assert!(is_attempt(&reserve(store, &bystander, OwnerToken::random()).await, 1));

    assert!(is_attempt(&reserve(store, &key, first).await, 1));
    let outcome = reserve(store, &key, second).await;
    assert!(matches!(outcome, ReserveOutcome::InFlight { attempt: 1, .. }), "{outcome:?}");
    let renewed = store.renew(&key, first, span(LEASE * 2)).await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { lease_left } if lease_left > LEASE), "{renewed:?}");
    assert_eq!(store.abandon(&key, first).await.unwrap(), AbandonOutcome::Abandoned);
    assert!(is_attempt(&reserve(store, &key, second).await, 2));
    assert_eq!(store.release(&key, second).await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(store.release(&absent, first).await.unwrap(), ReleaseOutcome::AlreadyReleased);
    assert_eq!(reserve(store, &absent, first).await, ReserveOutcome::Stale);
    server.clock().forward(Duration::from_secs(3600));
    assert_eq!(store.release(&absent, second).await.unwrap(), ReleaseOutcome::AlreadyReleased);
    assert!(is_attempt(&reserve(store, &key, first).await, 1));

    assert!(is_attempt(&reserve(store, &done, first).await, 1));
    let completion = completion("answer");
    assert_eq!(store.complete(&done, second, completion.clone()).await.unwrap(), CompleteOutcome::Lost);
    assert_eq!(store.complete(&done, first, completion.clone()).await.unwrap(), CompleteOutcome::Completed);
    let again = store.complete(&done, first, completion).await.unwrap();
    assert_eq!(again, CompleteOutcome::AlreadyCompleted);
    assert!(matches!(reserve(store, &done, second).await, ReserveOutcome::Completed { .. }));

    let engine = Engine::builder(store.clone()).lease(LEASE).retention(LEASE).build().unwrap();
    let together = Key::new("settings", "together").unwrap();
    let Admission::Granted(reservation) = engine.reserve(&together, &payload()).await.unwrap() else {
        panic!()
    };
    let transaction = reservation.begin_transaction(store).await.unwrap();
    transaction.complete(StoredValue::bytes("answer")).await.unwrap();
    server.clock().forward(DAY * 2);
    assert_eq!(store.sweep(100).await.unwrap(), 5);
}

#[tokio::test]
async fn no_setting_of_a_role_changes_what_a_statement_does() {
    for settings in [
        "ALTER ROLE idem SET standard_conforming_strings = off",
        "ALTER ROLE idem SET bytea_output = 'escape'; ALTER ROLE idem SET DateStyle = 'German';
         ALTER ROLE idem SET IntervalStyle = 'sql_standard'; ALTER ROLE idem SET TimeZone = 'Pacific/Apia';
         ALTER ROLE idem SET extra_float_digits = 0; ALTER ROLE idem SET client_encoding = 'LATIN1';
         ALTER ROLE idem SET transform_null_equals = on; ALTER ROLE idem SET lc_messages = 'C'",
        "ALTER ROLE idem SET default_transaction_isolation = 'repeatable read'",
        "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'",
        "ALTER ROLE idem SET synchronous_commit = off; ALTER ROLE idem SET enable_indexscan = off;
         ALTER ROLE idem SET enable_bitmapscan = off; ALTER ROLE idem SET enable_nestloop = off",
    ] {
        println!("{settings}");
        let (server, store) = under(settings).await;
        works(&server, &store).await;
    }
}

/// Operators for every type that the statements compare. They come before the server's own, and give wrong results or fail.
const TRAP: &str = "CREATE SCHEMA trap;
    CREATE FUNCTION trap.no(bytea, bytea) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(int2, int4) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(int4, int4) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(int8, int8) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(\"char\", \"char\") RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool';
    CREATE FUNCTION trap.no(timestamptz, interval) RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
    CREATE FUNCTION trap.plus(int8, int4) RETURNS int8 LANGUAGE sql AS 'SELECT 1::int8';
    CREATE FUNCTION trap.plus(interval, interval) RETURNS interval LANGUAGE sql AS 'SELECT NULL::interval';
    CREATE FUNCTION trap.times(numeric, numeric) RETURNS numeric LANGUAGE sql AS 'SELECT 1::numeric';
    CREATE OPERATOR trap.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = trap.no);
    CREATE OPERATOR trap.<> (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = trap.no);
    CREATE OPERATOR trap.= (LEFTARG = int2, RIGHTARG = int4, FUNCTION = trap.no);
    CREATE OPERATOR trap.= (LEFTARG = int4, RIGHTARG = int4, FUNCTION = trap.no);
    CREATE OPERATOR trap.= (LEFTARG = int8, RIGHTARG = int8, FUNCTION = trap.no);
    CREATE OPERATOR trap.= (LEFTARG = \"char\", RIGHTARG = \"char\", FUNCTION = trap.no);
    CREATE OPERATOR trap.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.no);
    CREATE OPERATOR trap.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.no);
    CREATE OPERATOR trap.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.no);
    CREATE OPERATOR trap.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = trap.no);
    CREATE OPERATOR trap.+ (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = trap.no);
    CREATE OPERATOR trap.- (LEFTARG = timestamptz, RIGHTARG = interval, FUNCTION = trap.no);
    CREATE OPERATOR trap.+ (LEFTARG = interval, RIGHTARG = interval, FUNCTION = trap.plus);
    CREATE OPERATOR trap.+ (LEFTARG = int8, RIGHTARG = int4, FUNCTION = trap.plus);
    CREATE OPERATOR trap.* (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = trap.times);
    CREATE DOMAIN trap.int8 AS text CHECK (VALUE = '?'); CREATE DOMAIN trap.int4 AS text CHECK (VALUE = '?');
    CREATE DOMAIN trap.text AS pg_catalog.int4; CREATE TYPE trap.record AS (x pg_catalog.text);
    CREATE DOMAIN trap.bytea AS pg_catalog.int4; CREATE DOMAIN trap.timestamptz AS pg_catalog.int4;
    ALTER ROLE idem SET search_path = trap, pg_catalog, public";

#[tokio::test]
async fn operators_and_types_earlier_in_the_search_path_are_not_used() {
    let server = Postgres::start_with_clock().await;
    server.client().await.batch_execute(TRAP).await.unwrap();
    let options = PostgresOptions::new().maintenance_interval(Duration::from_secs(3600));
    drop(PostgresStore::connect_with(&server.url(), options.clone()).await.unwrap());
    // In sessions other than the one that created the functions.
    let store = PostgresStore::connect_with(&server.url(), options).await.unwrap();
    works(&server, &store).await;
}

#[tokio::test]
async fn of_many_callers_one_wins_and_none_fails_at_any_default_isolation() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let setting = format!("ALTER ROLE idem SET default_transaction_isolation = '{level}'");
        let (server, store) = under(&setting).await;
        for round in 0..20 {
            let key = Key::new("settings", format!("{round}")).unwrap();
            // A new key, and then one whose lease is over.
            for _ in 0..2 {
                let mut callers = tokio::task::JoinSet::new();
                for _ in 0..16 {
                    let (store, key) = (store.clone(), key.clone());
                    callers.spawn(async move { store.reserve(&key, request(OwnerToken::random())).await });
                }
                let outcome = callers.join_all().await;
                let won =
                    outcome.iter().filter(|outcome| matches!(outcome, Ok(ReserveOutcome::Reserved { .. })));
                assert_eq!(won.count(), 1, "{level}: {outcome:?}");
                assert!(outcome.iter().all(Result::is_ok), "{level}: {outcome:?}");
                server.clock().forward(LEASE * 2);
            }
        }
    }
}

#[tokio::test]
async fn finding_and_inserting_are_separated_after_a_serialization_failure() {
    let (server, store) = under("SELECT").await;
    let client = server.client().await;
    let raising = |condition| {
        format!(
            "CREATE OR REPLACE FUNCTION idem_record_reserve(bytea, bytea, bytea, bytea, bytea, interval, interval)
             RETURNS record LANGUAGE plpgsql AS $$ BEGIN RAISE {condition}; END $$"
        )
    };
    client.batch_execute(&raising("serialization_failure")).await.unwrap();
    assert!(is_attempt(
        &reserve(&store, &Key::new("settings", "first").unwrap(), OwnerToken::random()).await,
        1
    ));
    // The combined statement is not tried again.
    client.batch_execute(&raising("internal_error")).await.unwrap();
    client.batch_execute("DELETE FROM idem_record").await.unwrap();
    works(&server, &store).await;
}

#[tokio::test]
async fn callers_of_neighboring_keys_do_not_conflict_at_any_default_isolation() {
    for level in ["repeatable read", "serializable"] {
        let setting = format!("ALTER ROLE idem SET default_transaction_isolation = '{level}'");
        let (_server, store) = under(&setting).await;
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..16 {
            let store = store.clone();
            callers.spawn(async move {
                for number in 0..20 {
                    let key = Key::new("settings", format!("{caller}-{number}")).unwrap();
                    let outcome = store.reserve(&key, request(OwnerToken::random())).await;
                    assert!(
                        matches!(outcome, Ok(ReserveOutcome::Reserved { attempt: 1, .. })),
                        "{level}: {outcome:?}"
                    );
                }
            });
        }
        callers.join_all().await;
    }
}
