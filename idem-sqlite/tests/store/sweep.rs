//! The removal of expired records.

use std::time::Duration;

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken};
use idem_core::{Effect, ReservationStore, StoredValue};

use crate::support::{DAY, Directory, ManualClock, eventually, key, released, reserve, reserved};

const COUNT: &str = "SELECT count(*) FROM idem_record";

#[tokio::test]
async fn maintenance_removes_expired_records() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let options = clock.options().maintenance_interval(Duration::from_millis(5));
    let store = directory.open_with(options).await;
    for number in 0..1000 {
        let owner = reserved(&store, &key(&format!("{number}"))).await.owner;
        released(&store, &key(&format!("{number}")), owner).await;
    }
    clock.forward(DAY);
    eventually(|| directory.count(COUNT) == 0).await;
}

/// The sweep reads one row for 128 records. Every write must keep that row correct, also a write after which a record
/// expires earlier or later than before.
#[tokio::test]
async fn a_sweep_removes_exactly_the_expired_records_in_any_order() {
    const RECORDS: u64 = 1000;
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = directory.open_with(clock.options().maintenance_interval(DAY)).await;
    let name = |number: u64| key(&format!("{number}"));
    for number in 0..RECORDS {
        let owner = reserved(&store, &name(number)).await.owner;
        // Neighbours expire after one to ten days, in no order; every seventh is not completed.
        let days = u32::try_from(number * 7919 % 10).unwrap() + 1;
        if number % 7 > 0 {
            let completion = Completion::new(StoredValue::bytes("answer"), span(DAY * days));
            let _ = store.complete(&name(number), owner, completion).await.unwrap();
        }
    }
    let reader = directory.connection();
    let now = || i64::try_from(clock.micros()).unwrap();
    let count = |sql: &str| reader.query_row(sql, [now()], |row| row.get::<_, i64>(0)).unwrap();
    let expired = "SELECT count(*) FROM idem_record WHERE expires_at <= ?1";
    let wrong_zones = "SELECT count(*) FROM idem_zone AS it WHERE ?1 AND it.expires_at >
        (SELECT min(expires_at) FROM idem_record WHERE id >> 7 = it.zone)";
    let mut removed = 0;
    for day in 0..12 {
        // Some keys are reserved again once their first record has expired.
        for number in (0..RECORDS).step_by(11) {
            let _ = reserve(&store, &name(number), OwnerToken::random()).await.unwrap();
        }
        let due = usize::try_from(count(expired)).unwrap();
        assert_eq!(store.sweep(usize::MAX).await.unwrap(), due, "day {day}");
        removed += due;
        assert_eq!(count(wrong_zones), 0, "day {day}");
        clock.forward(DAY);
    }
    // A key that was reserved again keeps its row.
    assert_eq!(removed, (0..RECORDS).filter(|number| number % 11 > 0).count());
}

#[tokio::test]
async fn a_sweep_that_fails_halfway_reports_exactly_what_it_removed() {
    let (directory, clock) = (Directory::new(), ManualClock::new());
    let store = directory.open_with(clock.options()).await;
    for number in 0..300 {
        let key = key(&format!("{number}"));
        let owner = reserved(&store, &key).await.owner;
        released(&store, &key, owner).await;
    }
    clock.forward(DAY);
    let stop = "CREATE TRIGGER stop BEFORE DELETE ON idem_record WHEN old.id = 290
                BEGIN SELECT RAISE(ABORT, 'stop'); END";
    directory.connection().execute_batch(stop).unwrap();
    let removed = store.sweep(1000).await.unwrap();
    assert_eq!((removed, directory.count(COUNT)), (256, 300 - 256));
    let error = store.sweep(1000).await.unwrap_err();
    assert_eq!((error.effect, directory.count(COUNT)), (Effect::NotApplied, 300 - 256));
}
