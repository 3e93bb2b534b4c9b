//! Waiting for a run of this process whose lease may end before it does.

use std::time::Duration;

use idem_core::store::Completion;
use idem_core::{Codec, InFlightPolicy, Outcome, ReservationStore, StoredValue};
use tokio::time::{Instant, sleep};

use super::AT_MOST;
use crate::support::{LEASE, TestStore, attempt_number, engine_with, hang, key, span, waiting_engine};

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_keeps_its_waiters_for_its_lease() {
    let held = LEASE * 2;
    let wait = InFlightPolicy::Wait { timeout: AT_MOST };
    // One comes long after the end of the lease, the other waits for it.
    for comes_after in [LEASE * 60, held - Duration::from_secs(10)] {
        let store = TestStore::new();
        let engine = engine_with(&store, |settings| settings.in_flight(wait).max_renewal(held));
        let start = Instant::now();
        let hung = hang(&engine);
        sleep(comes_after).await;
        assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
        assert!(start.elapsed() <= comes_after.max(held) + Duration::from_secs(1), "{:?}", start.elapsed());
        hung.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_accepted_elsewhere_reaches_the_waiters_of_a_zombie() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, LEASE * 5);
    let zombie = hang(&engine);
    sleep(Duration::from_secs(1)).await;
    let thief = store.steal(&key());
    let answer = StoredValue { format: Codec::Json.format(0), body: "99".into() };
    let _ = store.complete(&key(), thief, Completion::new(answer, span(LEASE * 60))).await.unwrap();
    // The zombie does not know yet. Its next heartbeat will, and then its waiters ask the store.
    assert!(matches!(attempt_number(&engine).await, Outcome::Replayed(99)));
    assert!(matches!(attempt_number(&engine).await, Outcome::Replayed(99)));
    zombie.abort();
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_time_is_up_learns_of_the_lease_as_last_renewed() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, Duration::from_secs(10));
    let hung = hang(&engine);
    sleep(LEASE * 2).await;
    let outcome = attempt_number(&engine).await;
    let Outcome::InFlight { retry_after } = outcome else { panic!("{outcome:?}") };
    assert!(retry_after >= LEASE * 2 / 3 && retry_after <= LEASE, "{retry_after:?}");
    hung.abort();
}
