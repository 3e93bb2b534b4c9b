//! Faults of what is around the store: other processes that lock the file or keep reading from it, the file itself,
//! and the clock.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod support;

use idem_conformance::span;
use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use idem_core::store::{Completion, OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, Effect, Key, ReservationStore, StoreErrorKind, StoredValue};
use idem_sqlite::{Clock, Options, Synchronous};

use crate::support::{
    DAY, Hands, LEASE, Place, abandoned, complete, completed, is_replayed, key, released, reserve, reserved,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_another_process_keeps_the_lock_writes_fail_without_effect_and_replays_are_given() {
    let place = Place::new();
    let store = place.open_with(Options::new().busy_timeout(Duration::from_millis(50))).await.unwrap();
    let (owner, _, _) = reserved(&store, &key("done")).await;
    completed(&store, &key("done"), owner, "answer").await;
    let (running, _, _) = reserved(&store, &key("running")).await;

    let lock = place.connection();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    for error in [
        reserve(&store, &key("new"), OwnerToken::random()).await.unwrap_err(),
        complete(&store, &key("running"), running, "answer").await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    }
    assert!(is_replayed(&store, &key("done"), "answer").await);
    let refused = reserve(&store, &key("running"), OwnerToken::random()).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }));

    lock.execute_batch("COMMIT").unwrap();
    completed(&store, &key("running"), running, "answer").await;
    assert_eq!(reserved(&store, &key("new")).await.2, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_longer_than_the_queue_timeout_is_discarded_without_effect() {
    let place = Place::new();
    let store = place.open_with(Options::new().queue_timeout(Duration::from_nanos(1))).await.unwrap();
    let error = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Timeout, Effect::NotApplied));
    assert_eq!(store.get(&key("a")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let place = Place::new();
    let store = place.open_with(Options::new().max_queued(0)).await.unwrap();
    let error = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
    assert!(error.source().unwrap().to_string().contains("max_queued"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pins_the_log_stops_nobody_and_the_log_is_written_back_after_it() {
    let place = Place::new();
    let store = place.open_with(Options::new().upkeep_interval(Duration::from_millis(5))).await.unwrap();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let (file, log) = (place.file(), place.file().with_file_name("idem.db-wal"));
    let reader = place.connection();
    reader.execute_batch("BEGIN").unwrap();
    let seen =
        || reader.query_row("SELECT count(*) FROM idem_record", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(seen(), 0);
    let answer = vec![b'x'; 4096];
    for number in 0..200 {
        let key = key(&format!("{number}"));
        let (owner, _, _) = reserved(&store, &key).await;
        let completion = Completion::new(StoredValue::bytes(answer.clone()), span(DAY));
        assert_eq!(store.complete(&key, owner, completion).await.unwrap(), CompleteOutcome::Completed);
    }
    assert_eq!(seen(), 0, "the reader's snapshot");
    let all = 200 * 4096;
    assert!(length(&log) > all && length(&file) < all, "it is all in the log");
    reader.execute_batch("COMMIT").unwrap();
    // The keeper does it, and nobody has to write for it.
    while length(&file) < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(reader);
    store.close().await;
    assert!(!log.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_is_never_written_to() {
    for replace in [true, false] {
        let place = Place::new();
        let store = place.open_with(Options::new().upkeep_interval(Duration::from_millis(10))).await.unwrap();
        reserved(&store, &key("a")).await;
        fs::rename(place.file(), place.file().with_extension("moved")).unwrap();
        if replace {
            fs::write(place.file(), "").unwrap();
        }
        let error = reserve(&store, &key("b"), OwnerToken::random()).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::NotApplied));
        assert!(error.source().unwrap().to_string().contains("deleted or replaced"));
        // Readers are told by the keeper.
        while store.get(&key("a")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if replace {
            assert_eq!(fs::metadata(place.file()).unwrap().len(), 0);
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_its_own_operations_and_no_others() {
    let place = Place::new();
    let store = place.open().await;
    reserved(&store, &key("a")).await;
    let garble = "UPDATE idem_record SET record = x'01020304'";
    assert_eq!(place.connection().execute(garble, []).unwrap(), 1);
    let (bad, good) = (key("a"), key("b"));
    let [bad, good] = [&bad, &good].map(|key| complete(&store, key, OwnerToken::random(), "x"));
    let (bad, good) = tokio::join!(bad, good);
    let error = bad.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Corrupt, Effect::NotApplied));
    assert_eq!(good.unwrap(), CompleteOutcome::Lost);
    assert_eq!(
        reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err().kind,
        StoreErrorKind::Corrupt
    );
    assert_eq!(reserved(&store, &key("b")).await.2, 1);
}

#[tokio::test]
async fn a_clock_that_steps_back_keeps_a_key_for_no_longer_than_its_lease() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    let (_, first, _) = reserved(&store, &key("a")).await;
    hands.back(Duration::from_secs(3600));
    // Seen for the first time after the step: from here on it is one lease.
    let refused = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap();
    assert!(
        matches!(refused, ReserveOutcome::InFlight { lease_left, .. } if lease_left == LEASE),
        "{refused:?}"
    );
    hands.forward(LEASE);
    let (_, second, attempt) = reserved(&store, &key("a")).await;
    assert_eq!(attempt, 2);
    assert!(second > first);
}

#[tokio::test]
async fn fences_go_on_growing_over_a_sweep_and_a_clock_that_steps_back() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    let (owner, first, _) = reserved(&store, &key("a")).await;
    released(&store, &key("a"), owner).await;
    hands.forward(Duration::from_secs(24 * 3600));
    assert_eq!(store.sweep(10).await.unwrap(), 1);
    hands.back(Duration::from_secs(10 * 24 * 3600));
    let (owner, second, attempt) = reserved(&store, &key("a")).await;
    assert_eq!(attempt, 1);
    assert!(second > first, "{second} after {first}");
    abandoned(&store, &key("a"), owner).await;
    assert!(reserved(&store, &key("a")).await.1 > second);
}

#[tokio::test]
async fn a_clock_that_steps_forward_ends_a_lease_and_the_zombie_is_told() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    let (zombie, _, _) = reserved(&store, &key("a")).await;
    hands.forward(LEASE);
    assert_eq!(reserved(&store, &key("a")).await.2, 2);
    assert_eq!(complete(&store, &key("a"), zombie, "late").await.unwrap(), CompleteOutcome::Lost);
}

#[tokio::test]
async fn the_keeper_removes_what_has_expired_by_itself() {
    let (place, hands) = (Place::new(), Hands::new());
    let options = Options::new().clock(hands.clock()).upkeep_interval(Duration::from_millis(5));
    let store = place.open_with(options).await.unwrap();
    for number in 0..1000 {
        let (owner, _, _) = reserved(&store, &key(&format!("{number}"))).await;
        released(&store, &key(&format!("{number}")), owner).await;
    }
    hands.forward(Duration::from_secs(24 * 3600));
    let reader = place.connection();
    let count =
        || reader.query_row("SELECT count(*) FROM idem_record", [], |row| row.get::<_, i32>(0)).unwrap();
    while count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The sweep asks where something may have expired, and not every record: what it is told has to be kept true by every
/// write, also by those that let a record expire earlier, or later, than before.
#[tokio::test]
async fn a_sweep_finds_exactly_what_has_expired_however_the_records_lie() {
    const RECORDS: u64 = 1000;
    let (place, hands) = (Place::new(), Hands::new());
    let options = Options::new().clock(hands.clock()).upkeep_interval(DAY);
    let store = place.open_with(options).await.unwrap();
    let name = |number: u64| key(&format!("{number}"));
    for number in 0..RECORDS {
        let (owner, _, _) = reserved(&store, &name(number)).await;
        // Neighbours are remembered for one to ten days, in no order; every seventh is not completed.
        let days = u32::try_from(number * 7919 % 10).unwrap() + 1;
        if number % 7 > 0 {
            let completion = Completion::new(StoredValue::bytes("answer"), span(DAY * days));
            let _ = store.complete(&name(number), owner, completion).await.unwrap();
        }
    }
    let reader = place.connection();
    let now = || i64::try_from(hands.micros()).unwrap();
    let count = |sql: &str| reader.query_row(sql, [now()], |row| row.get::<_, i64>(0)).unwrap();
    let expired = "SELECT count(*) FROM idem_record WHERE expires_at <= ?1";
    let untrue = "SELECT count(*) FROM idem_zone AS said WHERE ?1 AND said.expires_at >
        (SELECT min(expires_at) FROM idem_record WHERE id >> 7 = said.zone)";
    let mut removed = 0;
    for day in 0..12 {
        // Some live on: their key is reserved again once its first record has expired.
        for number in (0..RECORDS).step_by(11) {
            let _ = reserve(&store, &name(number), OwnerToken::random()).await.unwrap();
        }
        let due = usize::try_from(count(expired)).unwrap();
        assert_eq!(store.sweep(usize::MAX).await.unwrap(), due, "day {day}");
        removed += due;
        assert_eq!(count(untrue), 0, "day {day}");
        hands.forward(DAY);
    }
    // All but those whose key was reserved again, which keeps its row.
    assert_eq!(removed, (0..RECORDS).filter(|number| number % 11 > 0).count());
}

/// The index holds a part of a key's digest, and no more than that.
#[tokio::test]
async fn keys_that_look_the_same_to_the_index_are_told_apart() {
    let (one, other) = look_alikes();
    let place = Place::new();
    let store = place.open().await;
    let (owner, _, _) = reserved(&store, &one).await;
    completed(&store, &one, owner, "one").await;
    assert_eq!(store.get(&other).await.unwrap(), None);
    let (owner, _, attempt) = reserved(&store, &other).await;
    assert_eq!(attempt, 1);
    completed(&store, &other, owner, "other").await;
    assert!(is_replayed(&store, &one, "one").await);
    assert!(is_replayed(&store, &other, "other").await);
    let look_alikes =
        "SELECT count(*) FROM idem_record AS a JOIN idem_record AS b USING (digest) WHERE a.id < b.id";
    let count: i64 = place.connection().query_row(look_alikes, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 1);
}

/// Two keys whose digests begin with the same four bytes: among a few hundred thousand there are some.
fn look_alikes() -> (Key, Key) {
    let mut seen = HashMap::new();
    for number in 0.. {
        let key = key(&format!("{number}"));
        let first: [u8; 4] = key.digest().as_bytes()[..4].try_into().unwrap();
        if let Some(earlier) = seen.insert(first, key.clone()) {
            return (earlier, key);
        }
    }
    unreachable!("there are more keys than digests")
}

#[tokio::test]
async fn a_clock_that_panics_fails_one_operation_and_leaves_no_transaction_behind() {
    let place = Place::new();
    let panics = Arc::new(AtomicU32::new(0));
    let clock = Clock::from_fn({
        let panics = Arc::clone(&panics);
        move || {
            // Counted down to the call that panics.
            let left = panics.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            assert_ne!(left, Ok(1), "the clock's own words");
            SystemTime::now()
        }
    });
    let options = Options::new().synchronous(Synchronous::Normal).clock(clock);
    let store = place.open_with(options).await.unwrap();
    // The first are committed by the thread, and the others inline if commits are short here.
    for number in 0..50 {
        let (caller, panics) = (store.clone(), Arc::clone(&panics));
        let failing = tokio::spawn(async move {
            let name = key(&format!("before {number}"));
            let (owner, _, _) = reserved(&caller, &name).await;
            panics.store(1, Relaxed);
            complete(&caller, &name, owner, "never").await
        });
        // It panics, or is told that the thread did.
        assert!(failing.await.map_or_else(|error| error.is_panic(), |result| result.is_err()));
        // Another process need not wait for this one to write again.
        place.connection().execute_batch("BEGIN IMMEDIATE; COMMIT").unwrap();
        reserved(&store, &key(&format!("{number}"))).await;
    }
}

#[tokio::test]
async fn a_sweep_that_fails_half_way_says_what_it_removed_and_removes_nothing_in_secret() {
    let (place, hands) = (Place::new(), Hands::new());
    let store = place.open_with(Options::new().clock(hands.clock())).await.unwrap();
    for number in 0..300 {
        let key = key(&format!("{number}"));
        let (owner, _, _) = reserved(&store, &key).await;
        released(&store, &key, owner).await;
    }
    hands.forward(Duration::from_secs(24 * 3600));
    let stop = "CREATE TRIGGER stop BEFORE DELETE ON idem_record WHEN old.id = 290
                BEGIN SELECT RAISE(ABORT, 'stop'); END";
    place.connection().execute_batch(stop).unwrap();
    let count = || {
        let sql = "SELECT count(*) FROM idem_record";
        place.connection().query_row(sql, [], |row| row.get::<_, i32>(0)).unwrap()
    };
    let removed = store.sweep(1000).await.unwrap();
    assert_eq!((removed, count()), (256, 300 - 256));
    let error = store.sweep(1000).await.unwrap_err();
    assert_eq!((error.effect, count()), (Effect::NotApplied, 300 - 256));
}

#[tokio::test]
async fn a_clock_that_panics_in_the_background_ends_no_upkeep() {
    let place = Place::new();
    let panics = Arc::new(AtomicU32::new(3));
    let ahead = Arc::new(AtomicU32::new(0));
    let clock = Clock::from_fn({
        let (panics, ahead) = (Arc::clone(&panics), Arc::clone(&ahead));
        move || {
            if std::thread::current().name() == Some("idem-sqlite-keeper") {
                let left = panics.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
                assert!(left.is_err(), "the clock's own words");
            }
            SystemTime::now() + DAY * ahead.load(Relaxed)
        }
    });
    let options = Options::new().clock(clock).upkeep_interval(Duration::ZERO);
    let store = place.open_with(options).await.unwrap();
    let (owner, _, _) = reserved(&store, &key("a")).await;
    released(&store, &key("a"), owner).await;
    ahead.store(2, Relaxed);
    let reader = place.connection();
    let count =
        || reader.query_row("SELECT count(*) FROM idem_record", [], |row| row.get::<_, i32>(0)).unwrap();
    while count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(panics.load(Relaxed), 0);
}
