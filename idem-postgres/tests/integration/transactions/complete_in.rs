//! Completion in a transaction that the caller commits.

use idem_conformance::span;
use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, ReservationStore, StoreError, StoreErrorKind, StoredValue};
use test_servers::Proxy;
use test_servers::postgres::client;
use tokio_postgres::{Client, IsolationLevel, Transaction};

use crate::support::{LEASE, Shop, assert_without_effect, completion, key, request, url_of};

async fn complete(
    shop: &Shop,
    transaction: &mut Transaction<'_>,
    owner: OwnerToken,
) -> Result<CompleteOutcome, StoreError> {
    shop.store.complete_in(transaction, &key(), owner, completion("paid")).await
}

async fn at(client: &mut Client, level: IsolationLevel) -> Transaction<'_> {
    let transaction = client.build_transaction().isolation_level(level).start().await.unwrap();
    transaction.execute("INSERT INTO payment (key) VALUES ('42')", &[]).await.unwrap();
    transaction
}

const LEVELS: [IsolationLevel; 4] = [
    IsolationLevel::ReadUncommitted,
    IsolationLevel::ReadCommitted,
    IsolationLevel::RepeatableRead,
    IsolationLevel::Serializable,
];

#[tokio::test]
async fn effect_and_completion_commit_together_at_every_isolation_level() {
    for level in LEVELS {
        let shop = Shop::open().await;
        let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
        let mut transaction = at(&mut client, level).await;
        let completed =
            complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap();
        assert_eq!(completed, CompleteOutcome::Completed);
        assert_eq!((shop.payments().await, shop.next_attempt().await), (0, None));
        transaction.commit().await.unwrap();
        idem_core::backend::mark_committed(reservation, &StoredValue::bytes("paid").into());
        assert!(shop.is_replayed("paid").await);
        assert_eq!(shop.payments().await, 1);
    }
}

#[tokio::test]
async fn after_a_rollback_there_is_no_effect_and_no_completion() {
    let shop = Shop::open().await;
    let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
    let mut transaction = at(&mut client, IsolationLevel::ReadCommitted).await;
    complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.map(drop).unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(shop.payments().await, 0);
    drop(reservation);
    assert_eq!(shop.eventual_attempt().await, 2);
}

#[tokio::test]
async fn another_owner_gets_lost_at_every_level_and_writes_nothing() {
    for level in LEVELS {
        let shop = Shop::open().await;
        let (_reservation, mut client) = (shop.reserved().await, shop.server.client().await);
        let mut transaction = at(&mut client, level).await;
        let zombie = complete(&shop, &mut transaction, OwnerToken::random()).await.unwrap();
        assert_eq!(zombie, CompleteOutcome::Lost);
        transaction.rollback().await.unwrap();
        assert_eq!(shop.next_attempt().await, None);
    }
}

#[tokio::test]
async fn a_key_that_was_completed_is_not_completed_again() {
    let shop = Shop::open().await;
    let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
    let owner = idem_core::backend::owner(&reservation);
    let first = shop.store.complete(&key(), owner, completion("paid")).await.unwrap();
    assert_eq!(first, CompleteOutcome::Completed);
    let mut transaction = at(&mut client, IsolationLevel::ReadCommitted).await;
    let again = complete(&shop, &mut transaction, owner).await.unwrap();
    assert_eq!(again, CompleteOutcome::AlreadyCompleted);
    let other = shop.store.complete_in(&mut transaction, &key(), owner, completion("other")).await.unwrap();
    assert_eq!(other, CompleteOutcome::AnswerConflict);
}

#[tokio::test]
async fn a_snapshot_older_than_the_reservation_is_misconfigured_and_not_lost() {
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let shop = Shop::open().await;
        let mut client = shop.server.client().await;
        let mut transaction = at(&mut client, level).await;
        let reservation = shop.reserved().await;
        let error =
            complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Misconfigured, "begin it after the reservation");
    }
}

#[tokio::test]
async fn a_renewal_after_the_snapshot_is_a_serialization_failure() {
    let shop = Shop::open().await;
    let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
    let mut transaction = at(&mut client, IsolationLevel::RepeatableRead).await;
    shop.store
        .renew(&key(), idem_core::backend::owner(&reservation), span(LEASE * 2))
        .await
        .map(drop)
        .unwrap();
    let error = complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Unavailable, "40001");
}

#[tokio::test]
async fn a_read_only_transaction_is_misconfigured() {
    let shop = Shop::open().await;
    let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
    let mut transaction = client.build_transaction().read_only(true).start().await.unwrap();
    let error = complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "read-only");
}

#[tokio::test]
async fn a_transaction_that_failed_before_is_misconfigured() {
    let shop = Shop::open().await;
    let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
    let mut transaction = client.transaction().await.unwrap();
    transaction.batch_execute("SELECT 1 / 0").await.unwrap_err();
    let error = complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap_err();
    assert_without_effect(&error, StoreErrorKind::Misconfigured, "roll it back");
}

#[tokio::test]
async fn a_statement_timeout_and_a_lock_timeout_are_timeouts_without_effect() {
    for (setting, code) in [("statement_timeout", "57014"), ("lock_timeout", "55P03")] {
        let shop = Shop::open().await;
        let (reservation, mut client) = (shop.reserved().await, shop.server.client().await);
        let mut locker = shop.server.client().await;
        let locking = locker.transaction().await.unwrap();
        locking.execute("SELECT FROM idem_record FOR UPDATE", &[]).await.unwrap();
        let mut transaction = client.transaction().await.unwrap();
        transaction.batch_execute(&format!("SET LOCAL {setting} = '20ms'")).await.unwrap();
        let error =
            complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap_err();
        assert_without_effect(&error, StoreErrorKind::Timeout, code);
    }
}

/// A connection of the caller that can be cut.
async fn over(proxy: &Proxy) -> Client {
    client(&url_of(proxy.address())).await.unwrap()
}

async fn reserved_again(shop: &Shop, owner: OwnerToken) -> ReserveOutcome {
    shop.store.reserve(&key(), request(owner)).await.unwrap()
}

#[tokio::test]
async fn a_transaction_that_is_run_again_after_a_lost_reply_has_no_second_effect() {
    for level in LEVELS {
        let shop = Shop::open().await;
        let proxy = Proxy::start(shop.server.address()).await;
        let (reservation, mut client) = (shop.reserved().await, over(&proxy).await);
        let mut transaction = at(&mut client, level).await;
        complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.map(drop).unwrap();
        proxy.cut_when_request_contains(b"COMMIT");
        assert!(transaction.commit().await.is_err());
        assert!(proxy.has_met_request());

        assert_eq!(
            reserved_again(&shop, idem_core::backend::owner(&reservation)).await,
            ReserveOutcome::Stale
        );
        let mut client = over(&proxy).await;
        let mut again = at(&mut client, level).await;
        let outcome = complete(&shop, &mut again, idem_core::backend::owner(&reservation)).await.unwrap();
        assert_eq!(outcome, CompleteOutcome::AlreadyCompleted);
        again.rollback().await.unwrap();
        assert_eq!(shop.payments().await, 1);
    }
}

#[tokio::test]
async fn a_transaction_whose_commit_never_arrived_is_run_again_and_has_its_effect() {
    let shop = Shop::open().await;
    let proxy = Proxy::start(shop.server.address()).await;
    let (reservation, mut client) = (shop.reserved().await, over(&proxy).await);
    let mut transaction = at(&mut client, IsolationLevel::ReadCommitted).await;
    complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.map(drop).unwrap();
    proxy.cut();
    assert!(transaction.commit().await.is_err());

    let again = reserved_again(&shop, idem_core::backend::owner(&reservation)).await;
    assert!(matches!(again, ReserveOutcome::Reserved { attempt: 1, .. }), "{again:?}");
    let mut client = over(&proxy).await;
    let mut transaction = at(&mut client, IsolationLevel::ReadCommitted).await;
    let outcome = complete(&shop, &mut transaction, idem_core::backend::owner(&reservation)).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
    transaction.commit().await.unwrap();
    idem_core::backend::mark_committed(reservation, &StoredValue::bytes("paid").into());
    assert_eq!(shop.payments().await, 1);
    assert!(shop.is_replayed("paid").await);
}
