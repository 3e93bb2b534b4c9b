//! Servers that do not accept writes now, and servers whose scripts are flushed.

use std::sync::Arc;
use std::time::Duration;

use idem_core::store::{OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    AbandonOutcome, Effect, ExpiredLeasePolicy, Fingerprint, ReleaseOutcome, RenewOutcome, ReservationStore,
    StoreError, StoreErrorKind,
};
use test_servers::redis::Kind;

use super::support::ClockedServer;
use super::{Granted, LEASE, ask, completed, completion, is_replayed, key, request, reserve, reserved, span};

async fn configure(server: &ClockedServer, setting: &str, value: &str) {
    ask(server, redis::cmd("CONFIG").arg("SET").arg(setting).arg(value)).await;
}

#[tokio::test]
async fn at_maxmemory_only_new_keys_and_takeovers_fail() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let (done, running, over) = (key("done"), key("running"), key("over"));
    let owner = reserved(&store, &done).await.owner;
    completed(&store, &done, owner, "an answer").await;
    reserved(&store, &over).await;
    server.clock().forward(LEASE + Duration::from_millis(2));
    let owner = reserved(&store, &running).await.owner;
    let others = [key("released"), key("abandoned")];
    let [releasing, abandoning] =
        [reserved(&store, &others[0]).await.owner, reserved(&store, &others[1]).await.owner];
    configure(&server, "maxmemory", "1mb").await;

    let full = |result: Result<ReserveOutcome, StoreError>| {
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied));
    };
    full(reserve(&store, &key("new")).await);
    // A takeover would begin a run whose answer may not fit.
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
    assert_eq!(reserved(&store, &over).await.attempt, 2);
}

#[tokio::test]
async fn a_server_that_accepts_no_writes_still_replays_and_refuses() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let (done, running) = (key("done"), key("running"));
    let owner = reserved(&store, &done).await.owner;
    completed(&store, &done, owner, "an answer").await;
    let owner = reserved(&store, &running).await.owner;
    // The server has no replica.
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
    let server = Arc::new(ClockedServer::start(Kind::Redis));
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
                    let Granted { owner, fence, attempt } = reserved(&store, &key).await;
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
