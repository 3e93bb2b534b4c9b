//! What others do to the server, its records and its clock. What happens to the connection is in `links`.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod golden;
mod support;

use idem_conformance::span;
use std::sync::Arc;
use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Effect, ExpiredLeasePolicy, FencingToken, Fingerprint, Key,
    ReleaseOutcome, RenewOutcome, ReservationStore, StoreError, StoreErrorKind, StoredValue,
};
use idem_redis::RedisStore;
use redis::Value;
use support::{Kind, Server, name};

const LEASE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn key(name: &str) -> Key {
    Key::new("scope", name).unwrap()
}

fn request(owner: OwnerToken) -> ReserveRequest {
    ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(LEASE))
}

async fn reserve(store: &RedisStore, key: &Key) -> Result<ReserveOutcome, StoreError> {
    store.reserve(key, request(OwnerToken::random())).await
}

async fn reserved(store: &RedisStore, key: &Key) -> (OwnerToken, FencingToken, u32) {
    let owner = OwnerToken::random();
    match store.reserve(key, request(owner)).await.unwrap() {
        ReserveOutcome::Reserved { attempt, fence, .. } => (owner, fence, attempt),
        other => panic!("{other:?}"),
    }
}

fn completion(answer: &'static str) -> Completion {
    Completion::new(StoredValue::bytes(answer), span(24 * HOUR))
}

async fn completed(store: &RedisStore, key: &Key, owner: OwnerToken, answer: &'static str) {
    let outcome = store.complete(key, owner, completion(answer)).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
}

async fn is_replayed(store: &RedisStore, key: &Key, answer: &'static str) -> bool {
    let outcome = reserve(store, key).await.unwrap();
    matches!(outcome, ReserveOutcome::Completed { answer: Answer::Value(found), .. } if found == StoredValue::bytes(answer))
}

/// What every operation fails with.
async fn failures(store: &RedisStore, key: &Key) -> Vec<(StoreErrorKind, Effect)> {
    failures_of(store, key, OwnerToken::random()).await
}

/// The same for this owner.
async fn failures_of(store: &RedisStore, key: &Key, owner: OwnerToken) -> Vec<(StoreErrorKind, Effect)> {
    let failures = [
        reserve(store, key).await.unwrap_err(),
        store.renew(key, owner, span(LEASE)).await.unwrap_err(),
        store.complete(key, owner, completion("an answer")).await.unwrap_err(),
        store.release(key, owner).await.unwrap_err(),
        store.abandon(key, owner).await.unwrap_err(),
        store.get(key).await.unwrap_err(),
    ];
    failures.iter().map(|error| (error.kind, error.effect)).collect()
}

async fn ask(server: &Server, command: &redis::Cmd) -> Value {
    command.query_async(&mut server.connection().await).await.unwrap()
}

async fn configure(server: &Server, setting: &str, value: &str) {
    ask(server, redis::cmd("CONFIG").arg("SET").arg(setting).arg(value)).await;
}

#[tokio::test]
async fn what_is_no_record_is_corrupt_and_nothing_runs_until_it_is_gone() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let corrupt = vec![(StoreErrorKind::Corrupt, Effect::NotApplied); 6];

    let list = key("list");
    ask(&server, redis::cmd("RPUSH").arg(name(&list)).arg("an element")).await;
    assert_eq!(failures(&store, &list).await, corrupt);

    for (number, garbage) in [
        &b""[..],
        b"{}",
        b"I",
        b"A",
        b"C and not long enough",
        b"R and longer than any tombstone",
        &[0xff; 70],
    ]
    .iter()
    .enumerate()
    {
        let string = key(&format!("string {number}"));
        ask(&server, redis::cmd("SET").arg(name(&string)).arg(*garbage)).await;
        assert_eq!(failures(&store, &string).await, corrupt, "{garbage:?}");
        let found = ask(&server, redis::cmd("GET").arg(name(&string))).await;
        assert_eq!(found, Value::BulkString(garbage.to_vec()), "it is left as it was");
    }

    ask(&server, redis::cmd("DEL").arg(name(&list))).await;
    assert_eq!(reserved(&store, &list).await.2, 1);
}

/// Who it belongs to and its fence stand before what is broken.
#[tokio::test]
async fn a_completed_record_with_a_broken_tail_is_corrupt_for_its_owner_too() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    for (number, tail) in [
        &b""[..],
        b"\x80",
        b"\x01\x80",
        b"\x01\x04",
        b"\x01\x04\x80",
        // An attempt, a duration, a format that are too large; and a body where there is none.
        b"\xff\xff\xff\xff\x7f\x04\x00",
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00",
        b"\x01\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01an answer",
        b"\x01\x04\x00an answer",
        &[b"\x01\x04\x00", &[b'x'; 100][..]].concat(),
    ]
    .iter()
    .enumerate()
    {
        let key = key(&number.to_string());
        let owner = reserved(&store, &key).await.0;
        completed(&store, &key, owner, "an answer").await;
        let Value::BulkString(record) = ask(&server, redis::cmd("GET").arg(name(&key))).await else {
            panic!()
        };
        let broken = [&record[..56], tail].concat();
        ask(&server, redis::cmd("SET").arg(name(&key)).arg(&broken)).await;
        let corrupt = vec![(StoreErrorKind::Corrupt, Effect::NotApplied); 6];
        assert_eq!(failures_of(&store, &key, owner).await, corrupt, "{tail:?}");
        assert_eq!(failures(&store, &key).await, corrupt, "{tail:?}");
        let found = ask(&server, redis::cmd("GET").arg(name(&key))).await;
        assert_eq!(found, Value::BulkString(broken), "it is left as it was");
    }
}

#[tokio::test]
async fn at_maxmemory_nothing_new_is_taken_and_everything_else_goes_on() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let (done, running, over) = (key("done"), key("running"), key("over"));
    let owner = reserved(&store, &done).await.0;
    completed(&store, &done, owner, "an answer").await;
    reserved(&store, &over).await;
    server.clock().forward(LEASE + Duration::from_millis(2));
    let owner = reserved(&store, &running).await.0;
    let others = [key("released"), key("abandoned")];
    let [releasing, abandoning] =
        [reserved(&store, &others[0]).await.0, reserved(&store, &others[1]).await.0];
    configure(&server, "maxmemory", "1mb").await;

    let full = |result: Result<ReserveOutcome, StoreError>| {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied));
    };
    full(reserve(&store, &key("new")).await);
    // Taking over would begin a run of which nothing may be kept.
    full(reserve(&store, &over).await);

    assert!(is_replayed(&store, &done, "an answer").await);
    let outcome = reserve(&store, &running).await.unwrap();
    assert!(
        matches!(outcome, ReserveOutcome::InFlight { attempt: 1, lease_left } if !lease_left.is_zero() && lease_left <= LEASE),
        "{outcome:?}"
    );
    let other =
        ReserveRequest::new(OwnerToken::random(), Fingerprint::from_parts(["another payload"]), span(LEASE));
    assert_eq!(store.reserve(&running, other.clone()).await.unwrap(), ReserveOutcome::FingerprintMismatch);
    assert_eq!(store.reserve(&done, other).await.unwrap(), ReserveOutcome::FingerprintMismatch);
    let refusing = request(OwnerToken::random()).on_expired_lease(ExpiredLeasePolicy::Refuse);
    assert_eq!(store.reserve(&over, refusing).await.unwrap(), ReserveOutcome::LeaseExpired { attempt: 1 });

    let renewed = store.renew(&running, owner, span(LEASE)).await.unwrap();
    assert!(matches!(renewed, RenewOutcome::Renewed { .. }), "{renewed:?}");
    completed(&store, &running, owner, "another answer").await;
    assert!(is_replayed(&store, &running, "another answer").await);
    assert_eq!(store.release(&others[0], releasing).await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(store.abandon(&others[1], abandoning).await.unwrap(), AbandonOutcome::Abandoned);

    configure(&server, "maxmemory", "0").await;
    assert_eq!(reserved(&store, &over).await.2, 2);
}

#[tokio::test]
async fn a_server_that_does_not_write_for_now_still_replays_and_refuses() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let (done, running) = (key("done"), key("running"));
    let owner = reserved(&store, &done).await.0;
    completed(&store, &done, owner, "an answer").await;
    let owner = reserved(&store, &running).await.0;
    // It has none.
    configure(&server, "min-replicas-to-write", "1").await;

    assert!(is_replayed(&store, &done, "an answer").await);
    assert!(matches!(reserve(&store, &running).await.unwrap(), ReserveOutcome::InFlight { .. }));
    for error in [
        reserve(&store, &key("new")).await.unwrap_err(),
        store.complete(&running, owner, completion("another answer")).await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    }

    configure(&server, "min-replicas-to-write", "0").await;
    completed(&store, &running, owner, "another answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_flushed_every_5_ms_under_load_change_no_answer() {
    let server = Arc::new(Server::start(Kind::Redis));
    let store = server.store().await;
    let flushing = tokio::spawn({
        let mut connection = server.connection().await;
        async move {
            loop {
                redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut connection).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let key = key(&format!("{caller}, {number}"));
                    let (owner, fence, attempt) = reserved(&store, &key).await;
                    assert_eq!(attempt, 1);
                    let renewed = store.renew(&key, owner, span(2 * LEASE)).await.unwrap();
                    assert!(matches!(renewed, RenewOutcome::Renewed { .. }));
                    assert_eq!(store.get(&key).await.unwrap().unwrap().fence, fence);
                    completed(&store, &key, owner, "an answer").await;
                    assert!(is_replayed(&store, &key, "an answer").await);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(!flushing.is_finished());
    flushing.abort();
}

#[tokio::test]
async fn a_clock_that_steps_forward_ends_leases_early_and_the_zombie_is_told() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let key = key("stepped over");
    let (zombie, first, _) = reserved(&store, &key).await;
    server.clock().forward(HOUR);
    let (owner, second, attempt) = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert!(second > first);
    assert_eq!(store.complete(&key, zombie, completion("too late")).await.unwrap(), CompleteOutcome::Lost);
    completed(&store, &key, owner, "an answer").await;
}

#[tokio::test]
async fn a_clock_that_steps_back_keeps_a_key_for_no_longer_than_its_lease() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let (key, never_asked_for) = (key("held"), key("held by nobody's leave"));
    let first = reserved(&store, &key).await.1;
    reserved(&store, &never_asked_for).await;
    server.clock().back(HOUR);

    let outcome = reserve(&store, &key).await.unwrap();
    assert!(
        matches!(outcome, ReserveOutcome::InFlight { lease_left, .. } if lease_left <= LEASE),
        "{outcome:?}"
    );
    let view = store.get(&never_asked_for).await.unwrap().unwrap();
    assert!(matches!(view.state, StateView::InFlight { lease_left, .. } if lease_left <= LEASE), "{view:?}");

    server.clock().forward(LEASE + Duration::from_millis(2));
    let (_, second, attempt) = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert!(second > first, "the clock is an hour behind, and fences still grow");
}

#[tokio::test]
async fn an_owner_whose_servers_clock_steps_back_renews_and_completes() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let key = key("renewed");
    let owner = reserved(&store, &key).await.0;
    server.clock().back(HOUR);
    match store.renew(&key, owner, span(LEASE)).await.unwrap() {
        RenewOutcome::Renewed { lease_left } => assert_eq!(lease_left, LEASE),
        other => panic!("{other:?}"),
    }
    server.clock().forward(LEASE / 2);
    assert!(matches!(reserve(&store, &key).await.unwrap(), ReserveOutcome::InFlight { .. }));
    completed(&store, &key, owner, "an answer").await;
}

#[tokio::test]
async fn fences_go_on_growing_across_releases_while_the_clock_is_behind() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let key = key("released");
    let (mut owner, mut last, _) = reserved(&store, &key).await;
    for _ in 0..10 {
        server.clock().back(HOUR);
        assert_eq!(store.release(&key, owner).await.unwrap(), ReleaseOutcome::Released);
        let (next, fence, attempt) = reserved(&store, &key).await;
        assert_eq!(attempt, 1);
        assert!(fence > last);
        (owner, last) = (next, fence);
    }
}

/// An operator who takes the time to live away has taken the lease away: it is measured by it.
#[tokio::test]
async fn a_record_that_was_made_persistent_is_up_for_takeover_or_replayed_for_ever() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let (running, done) = (key("running"), key("done"));
    let (zombie, first, _) = reserved(&store, &running).await;
    let owner = reserved(&store, &done).await.0;
    completed(&store, &done, owner, "an answer").await;
    for key in [&running, &done] {
        ask(&server, redis::cmd("PERSIST").arg(name(key))).await;
        assert!(store.get(key).await.unwrap().is_some());
    }
    assert!(is_replayed(&store, &done, "an answer").await);
    let (_, second, attempt) = reserved(&store, &running).await;
    assert_eq!(attempt, 2);
    assert!(second > first);
    assert_eq!(store.complete(&running, zombie, completion("late")).await.unwrap(), CompleteOutcome::Lost);
}

#[tokio::test]
async fn a_clock_beyond_the_last_fence_makes_no_record_and_no_tombstone() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let key = key("in the year 2256");
    server.clock().forward(230 * 366 * 24 * HOUR);
    let reserving = reserve(&store, &key).await.unwrap_err();
    let releasing = store.release(&key, OwnerToken::random()).await.unwrap_err();
    for error in [reserving, releasing] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Internal, Effect::NotApplied));
    }
    assert_eq!(ask(&server, &redis::cmd("DBSIZE")).await, Value::Int(0));
}

/// The README tells operators which rights a store needs.
#[tokio::test]
async fn a_user_with_the_rights_that_the_readme_names_can_do_everything() {
    for kind in [Kind::Redis, Kind::Valkey] {
        everything_with_the_rights_of_the_readme(&Server::start(kind)).await;
    }
}

async fn everything_with_the_rights_of_the_readme(server: &Server) {
    let readme = include_str!("../README.md");
    let rights = readme.split("A user (ACL) needs `").nth(1).unwrap().split('`').next().unwrap();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("app").arg("on").arg(">secret").arg("~idem:*");
    ask(server, user.arg(rights.split(' ').collect::<Vec<_>>())).await;
    let store = RedisStore::connect(&format!("{}?user=app&password=secret", server.url())).await.unwrap();

    let key = key("with few rights");
    let first = reserved(&store, &key).await.0;
    server.clock().back(HOUR);
    assert!(matches!(reserve(&store, &key).await.unwrap(), ReserveOutcome::InFlight { .. }));
    assert!(matches!(store.renew(&key, first, span(LEASE)).await.unwrap(), RenewOutcome::Renewed { .. }));
    assert_eq!(store.abandon(&key, first).await.unwrap(), AbandonOutcome::Abandoned);
    let (second, _, attempt) = reserved(&store, &key).await;
    assert_eq!(attempt, 2);
    assert_eq!(store.release(&key, second).await.unwrap(), ReleaseOutcome::Released);
    let third = reserved(&store, &key).await.0;
    completed(&store, &key, third, "an answer").await;
    assert!(is_replayed(&store, &key, "an answer").await);
    assert!(store.get(&key).await.unwrap().is_some());
}

/// The bytes that this release writes are those that later ones will have to read.
#[tokio::test]
async fn what_is_written_is_what_the_golden_records_are() {
    let server = Server::start(Kind::Redis);
    let store = server.store().await;
    let connection = server.connection().await;
    let golden = |name: &str| {
        let golden = golden::records().into_iter().find(|golden| golden.name == name);
        golden.unwrap()
    };
    // All but the fence, whose seven bytes begin there, and for the end of an abandoned lease.
    let same = async |key: &Key, golden: &golden::Golden, fence: usize, end: usize| {
        let mut connection = connection.clone();
        let written: Vec<u8> = redis::cmd("GET").arg(name(key)).query_async(&mut connection).await.unwrap();
        assert_eq!(written.len(), golden.bytes.len(), "{}", golden.name);
        assert_eq!(written[..fence], golden.bytes[..fence], "{}", golden.name);
        assert_eq!(written[fence + 7..end], golden.bytes[fence + 7..end], "{}", golden.name);
    };
    let in_flight = golden("in flight");
    let (owner, fingerprint) = (in_flight.record.owner, in_flight.record.fingerprint);
    let ask = ReserveRequest::new(owner, fingerprint, span(LEASE)).record_ttl(span(24 * HOUR));

    let running = key("running");
    let outcome = store.reserve(&running, ask.clone()).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
    same(&running, &in_flight, 63, 70).await;

    for (name, retention) in [("empty", Duration::from_millis(90_001)), ("not kept", Duration::from_secs(45))]
    {
        let (key, golden) = (key(name), golden(name));
        let outcome = store.reserve(&key, ask.clone()).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        let idem_core::store::State::Completed { answer, .. } = golden.record.state.clone() else { panic!() };
        let outcome = store.complete(&key, owner, Completion::new(answer, span(retention))).await.unwrap();
        assert_eq!(outcome, CompleteOutcome::Completed);
        same(&key, &golden, 49, golden.bytes.len()).await;
    }

    // Attempts above 127 take two bytes in a completed record.
    let many = key("attempted often");
    for _ in 1..300 {
        let owner = OwnerToken::random();
        let outcome =
            store.reserve(&many, ReserveRequest::new(owner, fingerprint, span(LEASE))).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        assert_eq!(store.abandon(&many, owner).await.unwrap(), AbandonOutcome::Abandoned);
    }
    let outcome = store.reserve(&many, ask.clone()).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 300, .. }), "{outcome:?}");
    let often = golden("completed");
    let idem_core::store::State::Completed { answer, .. } = often.record.state.clone() else { panic!() };
    let outcome = store.complete(&many, owner, Completion::new(answer, span(24 * HOUR))).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
    same(&many, &often, 49, often.bytes.len()).await;

    let abandoned = key("abandoned");
    reserved(&store, &abandoned).await;
    server.clock().forward(LEASE + Duration::from_millis(2));
    let request =
        ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(Duration::from_millis(1)))
            .record_ttl(span(idem_core::store::Span::MAX.as_duration()));
    let outcome = store.reserve(&abandoned, request).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 2, .. }), "{outcome:?}");
    assert_eq!(store.abandon(&abandoned, owner).await.unwrap(), AbandonOutcome::Abandoned);
    let mut expected = golden("abandoned");
    expected.bytes[17..49].copy_from_slice(Fingerprint::from_parts(["payload"]).as_bytes());
    same(&abandoned, &expected, 63, 70).await;
}
