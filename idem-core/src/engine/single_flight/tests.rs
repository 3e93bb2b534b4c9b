use std::future::pending;
use std::pin::Pin;

use tokio::time::sleep;

use super::*;
use crate::store::{FencingToken, OwnerToken};

const SECOND: Duration = Duration::from_secs(1);

fn id() -> FlightId {
    (Key::new("scope", "name").unwrap(), Fingerprint::from_parts(["payload"]))
}

async fn join(single_flight: &Arc<SingleFlight>) -> Joined {
    let (key, fingerprint) = id();
    single_flight.join(&key, fingerprint, pending()).await
}

async fn lead(single_flight: &Arc<SingleFlight>) -> Leader {
    match join(single_flight).await {
        Joined::Leader(leader) => leader,
        Joined::Result(_) | Joined::Elapsed { .. } => panic!("nobody leads"),
    }
}

fn granted_run() -> Arc<Run> {
    let lease = Lease::granted(Instant::now(), SECOND * 60);
    Arc::new(Run::granted(&id().0, OwnerToken::random(), FencingToken::MIN, 1, lease))
}

/// Polls once, and returns whether the caller still waits.
async fn is_waiting(joining: &mut (impl Future<Output = Joined> + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *joining).poll(context).is_pending())).await
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_comes_after_the_result_starts_a_new_flight() {
    let single_flight = SingleFlight::new();
    lead(&single_flight).await.publish(SharedResult::FingerprintMismatch);
    assert!(single_flight.is_empty());
    drop(lead(&single_flight).await);
    assert!(single_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_flight_does_not_remove_its_successor() {
    let single_flight = SingleFlight::new();
    let first = lead(&single_flight).await;
    let member = single_flight.enter(id()); // A waiter of the first flight that is slow to leave.
    first.publish(SharedResult::FingerprintMismatch);
    let second = lead(&single_flight).await;
    drop(member);
    assert!(!single_flight.is_empty());
    drop(second);
    assert!(single_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves_nothing_behind() {
    let single_flight = SingleFlight::new();
    let leader = lead(&single_flight).await;
    let (key, fingerprint) = id();
    let waited = single_flight.join(&key, fingerprint, sleep(SECOND)).await;
    assert!(matches!(waited, Joined::Elapsed { retry_after: UNKNOWN_RETRY_AFTER }));
    let (now, backoff) = (Instant::now(), Backoff::new(Duration::ZERO, Duration::ZERO));
    leader.set_remote(RemoteOwner {
        lease_ends: now + SECOND * 7,
        next_poll: now,
        backoff,
        may_be_gone: false,
    });
    let waited = single_flight.join(&key, fingerprint, sleep(SECOND)).await;
    assert!(matches!(waited, Joined::Elapsed { retry_after } if retry_after == SECOND * 6));
    drop(leader);
    assert!(single_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_for_callers_that_joined_before_the_store_was_asked() {
    let single_flight = SingleFlight::new();
    let mut leader = lead(&single_flight).await;
    let (mut early, mut late) = (pin!(join(&single_flight)), pin!(join(&single_flight)));
    assert!(is_waiting(&mut early).await);
    leader.begin_request();
    assert!(is_waiting(&mut late).await);
    leader.publish(SharedResult::FingerprintMismatch);
    assert!(matches!(early.await, Joined::Result(SharedResult::FingerprintMismatch)));
    assert!(matches!(late.await, Joined::Leader(_)));
}

#[tokio::test(start_paused = true)]
async fn waiters_lead_in_the_order_in_which_they_joined() {
    let single_flight = SingleFlight::new();
    let mut leader = lead(&single_flight).await;
    let mut waiters: Vec<_> = (0..5).map(|_| Box::pin(join(&single_flight))).collect();
    for waiter in &mut waiters {
        assert!(is_waiting(waiter).await);
    }
    // Polled again in another order, which must not matter.
    for waiter in waiters.iter_mut().rev() {
        assert!(is_waiting(waiter).await);
    }
    while !waiters.is_empty() {
        drop(leader);
        let Joined::Leader(next) = waiters.remove(0).await else { panic!("the first waiter leads next") };
        for waiter in &mut waiters {
            assert!(is_waiting(waiter).await);
        }
        leader = next;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_is_dropped_before_it_knows_passes_the_leadership_on() {
    let single_flight = SingleFlight::new();
    let leader = lead(&single_flight).await;
    let (mut first, mut second) = (Box::pin(join(&single_flight)), Box::pin(join(&single_flight)));
    assert!(is_waiting(&mut first).await && is_waiting(&mut second).await);
    drop(leader);
    drop(first);
    assert!(matches!(second.await, Joined::Leader(_)));
    assert!(single_flight.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_revoked_publishes_nothing() {
    let single_flight = SingleFlight::new();
    let run = granted_run();
    let zombie = lead(&single_flight).await;
    zombie.start(&run);
    run.lose();
    let next = lead(&single_flight).await;
    let mut waiter = pin!(join(&single_flight));
    assert!(is_waiting(&mut waiter).await);
    zombie.publish(SharedResult::Answered(Answer::NotKept));
    assert!(is_waiting(&mut waiter).await);
    next.publish(SharedResult::FingerprintMismatch);
    // The refusal is older than the waiter, which has to ask for itself.
    assert!(matches!(waiter.await, Joined::Leader(_)));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_without_a_result_passes_the_leadership_on_at_once() {
    let single_flight = SingleFlight::new();
    let first = lead(&single_flight).await;
    first.start(&granted_run());
    let mut waiter = pin!(join(&single_flight));
    assert!(is_waiting(&mut waiter).await);
    drop(first);
    let start = Instant::now();
    assert!(matches!(waiter.await, Joined::Leader(_)));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn other_payloads_and_other_keys_have_flights_of_their_own() {
    let single_flight = SingleFlight::new();
    let _leader = lead(&single_flight).await;
    let (key, fingerprint) = id();
    let other_key = Key::new("scope", "other name").unwrap();
    for (key, fingerprint) in [(key, Fingerprint::from_parts(["other payload"])), (other_key, fingerprint)] {
        assert!(matches!(single_flight.join(&key, fingerprint, pending()).await, Joined::Leader(_)));
    }
}
