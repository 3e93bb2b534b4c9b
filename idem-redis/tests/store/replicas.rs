//! Operations that wait for replicas.

use idem_core::{Effect, Operation, ReleaseOutcome, StoreErrorKind};
use test_servers::redis::{Kind, Server};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_was_acknowledged_is_on_the_replica() {
    let (master, replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let store = connect(&master.url(), RedisOptions::new().replicas(1, Duration::from_secs(20))).await;
    for n in 0..50 {
        let reserved = store.reserve(&key(&n.to_string()), request(OwnerToken::random())).await.unwrap();
        assert!(matches!(reserved, ReserveOutcome::Reserved { .. }), "{reserved:?}");
        let there: u64 = redis::from_redis_value(replica.command(&["DBSIZE"])).unwrap();
        assert!(there > n, "{there} of {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_replicas_an_operation_is_unknown_and_it_is_acknowledged_when_they_are_back() {
    let (master, replica) = blocking(|| Server::with_replica(Kind::Redis)).await;
    let store = connect(&master.url(), RedisOptions::new().replicas(1, Duration::from_millis(200))).await;
    let (key, owner) = (key("k"), OwnerToken::random());
    replica.process.pause();
    let error = store.reserve(&key, request(owner)).await.unwrap_err();
    assert_eq!(
        (error.kind, error.effect, error.operation),
        (StoreErrorKind::Timeout, Effect::Unknown, Operation::Reserve)
    );
    // It has happened on the master. Each resend waits for the replicas again.
    store.reserve(&key, request(owner)).await.unwrap_err();
    let error = store.renew(&key, owner, span(HOUR)).await.unwrap_err();
    assert_eq!((error.effect, error.operation), (Effect::Unknown, Operation::Renew));
    store.complete(&key, owner, completion("done")).await.unwrap_err();
    let error = store.complete(&key, owner, completion("done")).await.unwrap_err();
    assert_eq!((error.effect, error.operation), (Effect::Unknown, Operation::Complete));
    // Operations that change nothing, and those that can only cost a lease, do not wait.
    let replayed = store.reserve(&key, request(OwnerToken::random())).await.unwrap();
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
    assert_eq!(store.release(&key, owner).await.unwrap(), ReleaseOutcome::AlreadyCompleted);

    replica.process.resume();
    let completed = persist(|| store.complete(&key, owner, completion("done"))).await;
    assert_eq!(completed, CompleteOutcome::AlreadyCompleted);
}
