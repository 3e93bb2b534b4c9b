//! Values at a record's key that are not records.

use idem_core::store::OwnerToken;
use idem_core::{Effect, Key, ReservationStore, StoreErrorKind};
use idem_redis::RedisStore;
use redis::Value;
use test_servers::redis::Kind;

use super::support::{ClockedServer, name};
use super::{LEASE, ask, completed, completion, key, reserve, reserved, span};

/// The errors of every operation, by a new owner.
async fn failures(store: &RedisStore, key: &Key) -> Vec<(StoreErrorKind, Effect)> {
    failures_of(store, key, OwnerToken::random()).await
}

/// The errors of every operation, by this owner.
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

#[tokio::test]
async fn a_value_that_is_not_a_record_is_corrupt_and_nothing_runs_until_it_is_removed() {
    let server = ClockedServer::start(Kind::Redis);
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
        assert_eq!(found, Value::BulkString(garbage.to_vec()), "it was changed");
    }

    ask(&server, redis::cmd("DEL").arg(name(&list))).await;
    assert_eq!(reserved(&store, &list).await.attempt, 1);
}

/// The owner and the fence come before the part that is broken.
#[tokio::test]
async fn a_completed_record_with_a_broken_tail_is_corrupt_for_its_owner_too() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    for (number, tail) in [
        &b""[..],
        b"\x80",
        b"\x01\x80",
        b"\x01\x04",
        b"\x01\x04\x80",
        // An attempt, a duration and a format that are too large; a body where there must be none.
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
        let owner = reserved(&store, &key).await.owner;
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
        assert_eq!(found, Value::BulkString(broken), "it was changed");
    }
}
