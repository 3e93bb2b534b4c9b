//! The renewal of leases, and what happens when it fails.

use std::time::Duration;

use idem_core::store::StateView;
use idem_core::{Attempt, Key, Operation, Outcome, RenewOutcome, ReservationStore, StoreErrorKind};
use tokio::time::{Instant, advance, sleep};

use crate::support::{Fault, LEASE, TestStore, engine, engine_with, fingerprint, granted, key};

/// Lets the tasks that are due run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_of_ten_leases_keeps_its_key_by_one_renewal_every_third_of_a_lease() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.max_renewal(LEASE * 100));
    let duplicate = engine.clone();
    let outcome = engine
        .execute(&key(), &fingerprint(), async |attempt: Attempt| {
            for _ in 0..10 {
                sleep(LEASE).await;
                let outcome =
                    duplicate.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(2_u8)).await;
                assert!(matches!(outcome.unwrap(), Outcome::InFlight { .. }));
                assert!(!attempt.is_lost());
            }
            Ok::<_, String>(1_u8)
        })
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::Executed(1)));
    assert!((29..=30).contains(&store.calls(Operation::Renew)), "{}", store.calls(Operation::Renew));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_renewed_after_the_run_is_settled() {
    let store = TestStore::new();
    let engine = engine(&store);
    let _ = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(1_u8)).await.unwrap();
    sleep(LEASE * 5).await;
    assert_eq!(store.calls(Operation::Renew), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_holds_its_key_for_max_renewal() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.max_renewal(LEASE * 3 + Duration::from_secs(7)));
    let start = Instant::now();
    let hung = engine.clone();
    let task = tokio::spawn(async move {
        let handler = async |_| {
            std::future::pending::<()>().await;
            Ok::<_, String>(1_u8)
        };
        hung.execute(&key(), &fingerprint(), handler).await
    });
    loop {
        sleep(Duration::from_secs(1)).await;
        let outcome =
            engine.execute(&key(), &fingerprint(), async |attempt| Ok::<_, String>(attempt.number)).await;
        match outcome.unwrap() {
            Outcome::InFlight { .. } => {}
            Outcome::Executed(attempt) => {
                assert_eq!(attempt, 2);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(start.elapsed(), LEASE * 3 + Duration::from_secs(7));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn the_handler_learns_of_a_lost_lease_at_the_next_heartbeat() {
    let store = TestStore::new();
    let thief = store.clone();
    let start = Instant::now();
    let outcome = engine(&store)
        .execute(&key(), &fingerprint(), async |attempt: Attempt| {
            thief.steal(&key());
            attempt.lost().await;
            Ok::<_, String>(1_u8)
        })
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::LeaseLost(1)));
    assert_eq!(start.elapsed(), LEASE / 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_by_the_local_clock_when_the_store_cannot_be_reached() {
    let store = TestStore::new();
    let start = Instant::now();
    let network = store.clone();
    let outcome = engine(&store)
        .execute(&key(), &fingerprint(), async |attempt: Attempt| {
            sleep(LEASE / 2).await;
            network.fail_all(Operation::Renew, Fault::Refused(StoreErrorKind::Unavailable));
            attempt.lost().await;
            Ok::<_, String>(start.elapsed().as_secs())
        })
        .await;
    // The last renewal was sent after a third of a lease, so the lease is known to hold for four thirds of it. Nobody
    // took the key, so the completion is accepted all the same.
    assert!(matches!(outcome.unwrap(), Outcome::Executed(80)));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_granted_at_the_second_sending_counts_from_that() {
    let store = TestStore::new();
    store.fail_next(Operation::Reserve, Fault::Silent);
    store.fail_all(Operation::Renew, Fault::Refused(StoreErrorKind::Unavailable));
    let reservation = granted(&engine(&store), &key()).await;
    // Nothing takes time here but the silence of the first sending.
    let granted_at = Instant::now();
    reservation.attempt().lost().await;
    assert_eq!(granted_at.elapsed(), LEASE);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_or_hangs_is_tried_again_sooner() {
    for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::ReplyLost, Fault::Silent] {
        let store = TestStore::new();
        store.fail_next(Operation::Renew, fault);
        let outcome = engine(&store)
            .execute(&key(), &fingerprint(), async |attempt: Attempt| {
                sleep(LEASE - Duration::from_secs(1)).await;
                assert!(store.calls(Operation::Renew) >= 2);
                assert!(!attempt.is_lost());
                sleep(LEASE).await;
                assert!(!attempt.is_lost());
                Ok::<_, String>(1_u8)
            })
            .await;
        assert!(matches!(outcome.unwrap(), Outcome::Executed(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_128_renewals_are_sent_at_once() {
    let store = TestStore::new();
    store.fail_all(Operation::Renew, Fault::Slow(Duration::from_millis(10)));
    let engine = engine(&store);
    let mut held = Vec::new();
    for i in 0..1000 {
        held.push(granted(&engine, &Key::new("scope", i.to_string()).unwrap()).await);
    }
    sleep(LEASE / 3 + Duration::from_secs(1)).await;
    assert_eq!((store.calls(Operation::Renew), store.most_at_once(Operation::Renew)), (1000, 128));
}

#[tokio::test(start_paused = true)]
async fn many_live_reservations_are_renewed_each_in_its_time_by_one_driver() {
    const RESERVATIONS: usize = 2000;
    let store = TestStore::new();
    let engine = engine(&store);
    let mut held = Vec::new();
    for i in 0..RESERVATIONS {
        let key = Key::new("scope", i.to_string()).unwrap();
        let reservation = granted(&engine, &key).await;
        held.push((key, reservation));
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks <= 2, "{tasks} tasks wait for {RESERVATIONS} leases");

    sleep(LEASE / 3 + Duration::from_secs(1)).await;
    assert_eq!(store.calls(Operation::Renew), RESERVATIONS);
    // Half of them end; the others continue.
    held.truncate(RESERVATIONS / 2);
    settle().await;
    sleep(LEASE / 3).await;
    assert_eq!(store.calls(Operation::Renew), RESERVATIONS + RESERVATIONS / 2);
    for (key, reservation) in held {
        let view = store.get(&key).await.unwrap().unwrap();
        assert!(matches!(view.state, StateView::InFlight { lease_left, .. } if lease_left > LEASE / 2));
        drop(reservation);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reservation_can_be_renewed_by_hand_and_says_whether_it_is_still_owned() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.max_renewal(Duration::from_secs(1)));
    let reservation = granted(&engine, &key()).await;
    advance(LEASE / 2).await;
    assert_eq!(reservation.renew().await.unwrap(), RenewOutcome::Renewed { lease_left: LEASE });
    store.steal(&key());
    assert_eq!(reservation.renew().await.unwrap(), RenewOutcome::Lost);
    assert!(reservation.attempt().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_outlives_its_engine_is_still_renewed() {
    let store = TestStore::new();
    let engine = engine(&store);
    let reservation = granted(&engine, &key()).await;
    drop(engine);
    sleep(LEASE * 2).await;
    assert!(!reservation.attempt().is_lost());
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_its_engine() {
    let engine = engine(&TestStore::new());
    let _ = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(1_u8)).await.unwrap();
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 1);
    drop(engine);
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[test]
fn an_engine_that_outlives_a_runtime_renews_in_the_next_one() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let store = runtime().block_on(async { TestStore::new() });
    let engine = engine(&store);
    for round in 0..3 {
        runtime().block_on(async {
            let key = Key::new("round", round.to_string()).unwrap();
            let outcome = engine
                .execute(&key, &fingerprint(), async |_| {
                    sleep(LEASE / 2).await;
                    Ok::<_, String>(1_u8)
                })
                .await;
            assert!(matches!(outcome.unwrap(), Outcome::Executed(1)));
        });
        assert_eq!(store.calls(Operation::Renew), round + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reservation_is_renewed_before_those_that_came_meanwhile() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.lease(Duration::from_secs(3)));
    store.fail_next(Operation::Reserve, Fault::Slow(Duration::from_millis(2400)));
    let (slow, slow_key) = (engine.clone(), Key::new("scope", "slow").unwrap());
    let slow = tokio::spawn(async move { granted(&slow, &slow_key).await });
    sleep(Duration::from_millis(2390)).await;
    let _quick = granted(&engine, &key()).await;
    let slow = slow.await.unwrap();
    // Its lease counts from the sending: without a renewal it would be over by now.
    sleep(Duration::from_millis(610)).await;
    assert_eq!(store.calls(Operation::Renew), 1);
    assert!(!slow.attempt().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_over_when_granted_is_renewed_before_the_handler_runs() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.lease(Duration::from_secs(1)));
    store.fail_next(Operation::Reserve, Fault::Slow(Duration::from_secs(2)));
    let handler = async |attempt: Attempt| Ok::<_, String>(attempt.is_lost());
    let outcome = engine.execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::Executed(false)), "{outcome:?}");
    assert_eq!(store.calls(Operation::Reserve), 2);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_store_that_hangs_does_not_cost_the_rest_its_leases() {
    let store = TestStore::new();
    store.fail_scope("hangs", Operation::Renew, Fault::Stuck);
    let engine = engine(&store);
    let (mut hanging, mut healthy) = (Vec::new(), Vec::new());
    for i in 0..500 {
        hanging.push(granted(&engine, &Key::new("hangs", i.to_string()).unwrap()).await);
        healthy.push(granted(&engine, &Key::new("works", i.to_string()).unwrap()).await);
    }
    let start = Instant::now();
    // Checked all the time: a lease that was lost and renewed again would look healthy at the end.
    while start.elapsed() < LEASE * 4 {
        sleep(Duration::from_secs(1)).await;
        assert!(healthy.iter().all(|reservation| !reservation.attempt().is_lost()), "{:?}", start.elapsed());
    }
    assert!(hanging.iter().all(|reservation| reservation.attempt().is_lost()));
}

#[tokio::test(start_paused = true)]
async fn at_most_64_renewals_that_failed_before_are_sent_at_once() {
    let store = TestStore::new();
    store.fail_all(Operation::Renew, Fault::Refused(StoreErrorKind::Unavailable));
    let engine = engine(&store);
    let mut held = Vec::new();
    for i in 0..200 {
        held.push(granted(&engine, &Key::new("scope", i.to_string()).unwrap()).await);
    }
    sleep(LEASE / 3 + Duration::from_secs(1)).await;
    assert_eq!(store.calls(Operation::Renew), 200);
    // All have failed. The retries never end, so that they can be counted.
    store.fail_all(Operation::Renew, Fault::Stuck);
    sleep(LEASE / 12).await;
    assert_eq!(store.under_way(Operation::Renew), 64);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_panics_is_tried_again_too() {
    let store = TestStore::new();
    store.fail_next(Operation::Renew, Fault::Panic);
    let reservation = granted(&engine(&store), &key()).await;
    sleep(LEASE * 2).await;
    assert!(!reservation.attempt().is_lost());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_stays_lost_when_the_store_is_back() {
    let store = TestStore::new();
    let reservation = granted(&engine(&store), &key()).await;
    store.fail_all(Operation::Renew, Fault::Refused(StoreErrorKind::Unavailable));
    reservation.attempt().lost().await;
    let failed = store.calls(Operation::Renew);
    store.heal();
    sleep(Duration::from_secs(10)).await;
    assert!(store.calls(Operation::Renew) > failed);
    assert!(reservation.attempt().is_lost());
}
