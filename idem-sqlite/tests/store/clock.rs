//! Clocks that step back or forward, or panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, ReservationStore};
use idem_sqlite::{Clock, SqliteOptions, Synchronous};

use crate::support::{
    DAY, Directory, LEASE, ManualClock, abandoned, complete, eventually, key, released, reserve, reserved,
};

#[tokio::test]
async fn a_clock_that_steps_back_keeps_a_key_for_no_longer_than_its_lease() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = directory.open_with(clock.options()).await;
    let first = reserved(&store, &key("a")).await;
    clock.back(Duration::from_secs(3600));
    // The first look after the step cuts the lease to its length.
    let refused = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap();
    assert!(
        matches!(refused, ReserveOutcome::InFlight { lease_left, .. } if lease_left == LEASE),
        "{refused:?}"
    );
    clock.forward(LEASE);
    let second = reserved(&store, &key("a")).await;
    assert_eq!(second.attempt, 2);
    assert!(second.fence > first.fence);
}

#[tokio::test]
async fn fences_keep_growing_after_a_sweep_and_a_clock_that_steps_back() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = directory.open_with(clock.options()).await;
    let first = reserved(&store, &key("a")).await;
    released(&store, &key("a"), first.owner).await;
    clock.forward(DAY);
    assert_eq!(store.sweep(10).await.unwrap(), 1);
    clock.back(10 * DAY);
    let second = reserved(&store, &key("a")).await;
    assert_eq!(second.attempt, 1);
    assert!(second.fence > first.fence, "{} after {}", second.fence, first.fence);
    abandoned(&store, &key("a"), second.owner).await;
    assert!(reserved(&store, &key("a")).await.fence > second.fence);
}

#[tokio::test]
async fn a_clock_that_steps_forward_ends_a_lease_and_the_zombie_gets_lost() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = directory.open_with(clock.options()).await;
    let zombie = reserved(&store, &key("a")).await.owner;
    clock.forward(LEASE);
    assert_eq!(reserved(&store, &key("a")).await.attempt, 2);
    assert_eq!(complete(&store, &key("a"), zombie, "late").await.unwrap(), CompleteOutcome::Lost);
}

#[tokio::test]
async fn a_clock_that_panics_fails_one_operation_and_leaves_no_open_transaction() {
    let directory = Directory::new();
    let countdown = Arc::new(AtomicU32::new(0));
    let clock = Clock::from_fn({
        let countdown = Arc::clone(&countdown);
        move || {
            // The call that counts from 1 to 0 panics.
            let left = countdown.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            assert_ne!(left, Ok(1), "the clock panics");
            SystemTime::now()
        }
    });
    let options = SqliteOptions::new().synchronous(Synchronous::Normal).clock(clock);
    let store = directory.open_with(options).await;
    // The thread commits the first operations; if commits are short here, the others are committed inline.
    for number in 0..50 {
        let (caller, countdown) = (store.clone(), Arc::clone(&countdown));
        let failing = tokio::spawn(async move {
            let name = key(&format!("before {number}"));
            let owner = reserved(&caller, &name).await.owner;
            countdown.store(1, Relaxed);
            complete(&caller, &name, owner, "never").await
        });
        // The caller panics, or gets an error if the thread did.
        assert!(failing.await.map_or_else(|error| error.is_panic(), |result| result.is_err()));
        // The write lock is free.
        directory.connection().execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        reserved(&store, &key(&format!("{number}"))).await;
    }
}

#[tokio::test]
async fn a_clock_that_panics_does_not_end_maintenance() {
    let directory = Directory::new();
    let panics = Arc::new(AtomicU32::new(3));
    let ahead = Arc::new(AtomicU32::new(0));
    let clock = Clock::from_fn({
        let (panics, ahead) = (Arc::clone(&panics), Arc::clone(&ahead));
        move || {
            if std::thread::current().name() == Some("idem-sqlite-maintenance") {
                let left = panics.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
                assert!(left.is_err(), "the clock panics");
            }
            SystemTime::now() + DAY * ahead.load(Relaxed)
        }
    });
    let options = SqliteOptions::new().clock(clock).maintenance_interval(Duration::ZERO);
    let store = directory.open_with(options).await;
    let owner = reserved(&store, &key("a")).await.owner;
    released(&store, &key("a"), owner).await;
    ahead.store(2, Relaxed);
    eventually(|| directory.count("SELECT count(*) FROM idem_record") == 0).await;
    assert_eq!(panics.load(Relaxed), 0);
}
