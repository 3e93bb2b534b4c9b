//! What happens when the store fails.

use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveRequest};
use idem_core::{
    Attempt, Effect, Engine, ExecuteError, FencingToken, Fingerprint, Operation, Outcome, ReservationStore,
    StoreErrorKind, StoreFailurePolicy, StoredValue,
};
use tokio::time::{Instant, sleep};

use crate::support::{Fault, LEASE, TestStore, engine, engine_with, fingerprint, key, span};

fn fail_open(store: &TestStore) -> Engine {
    engine_with(store, |settings| settings.store_failure(StoreFailurePolicy::FailOpen))
}

async fn run(engine: &Engine) -> Result<Outcome<u32>, ExecuteError<String>> {
    engine.execute(&key(), &fingerprint(), async |attempt: Attempt| Ok(attempt.number)).await
}

async fn must_not_run(engine: &Engine) -> idem_core::StoreError {
    let handler = async |_| -> Result<u32, String> { panic!("must not run") };
    match engine.execute(&key(), &fingerprint(), handler).await {
        Err(ExecuteError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_runs_nothing_and_says_so_at_once() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let start = Instant::now();
    assert_eq!(must_not_run(&engine(&store)).await.kind, StoreErrorKind::Unavailable);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_silent_runs_nothing_after_the_reserve_timeout() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Silent);
    let start = Instant::now();
    assert_eq!(must_not_run(&engine(&store)).await.kind, StoreErrorKind::Timeout);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    // The reservation did take effect. It is released, so that the next caller can run.
    store.heal();
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_reply_the_reservation_is_resent_and_the_handler_runs_once() {
    let store = TestStore::new();
    store.fail_next(Operation::Reserve, Fault::ReplyLost);
    store.fail_next(Operation::Reserve, Fault::ReplyLost);
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Executed(1)));
    assert_eq!(store.calls(Operation::Reserve), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_lost_reply_is_resent_and_the_handler_runs_once() {
    let store = TestStore::new();
    store.fail_next(Operation::Reserve, Fault::ReplyLost);
    store.fail_next(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let mut runs = 0;
    let handler = async |attempt: Attempt| {
        runs += 1;
        Ok::<_, String>(attempt.number)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::Executed(1)), "{outcome:?}");
    assert_eq!((store.calls(Operation::Reserve), runs), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn fail_open_runs_without_protection_and_the_outcome_says_so() {
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Timeout] {
        let store = TestStore::new();
        store.fail_all(Operation::Reserve, Fault::Refused(kind));
        let handler = async |attempt: Attempt| {
            assert!(attempt.is_unprotected());
            assert_eq!(attempt.fence, FencingToken::MIN);
            Ok::<_, String>(attempt.number)
        };
        let outcome = fail_open(&store).execute(&key(), &fingerprint(), handler).await;
        assert!(matches!(outcome.unwrap(), Outcome::Unprotected(1)));
        assert_eq!(store.calls(Operation::Complete), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn fail_open_returns_the_handlers_error_untouched() {
    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let handler = async |_| Err::<u32, _>("declined".to_owned());
    let result = fail_open(&store).execute(&key(), &fingerprint(), handler).await;
    assert!(matches!(result, Err(ExecuteError::Handler(error)) if error == "declined"));
}

#[tokio::test(start_paused = true)]
async fn fail_open_never_covers_errors_of_a_store_that_answers() {
    use StoreErrorKind::{Corrupt, Full, Incompatible, Internal, Misconfigured, TooLarge};
    for kind in [Corrupt, Incompatible, Misconfigured, Full, TooLarge, Internal] {
        for (fault, effect) in
            [(Fault::Refused(kind), Effect::NotApplied), (Fault::Unclear(kind), Effect::Unknown)]
        {
            let store = TestStore::new();
            store.fail_all(Operation::Reserve, fault);
            let error = must_not_run(&fail_open(&store)).await;
            assert_eq!((error.kind, error.effect), (kind, effect));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_sent_again_with_the_same_token_until_the_store_is_back() {
    let store = TestStore::new();
    store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    let outage = store.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(20)).await;
        outage.heal();
    });
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Executed(1)));
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Replayed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_completion_whose_reply_was_lost_is_accepted_when_resent() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::ReplyLost);
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Executed(1)));
    assert_eq!(store.calls(Operation::Complete), 2);
}

#[tokio::test(start_paused = true)]
async fn a_completion_without_acknowledgement_is_unrecorded_and_never_a_release() {
    let store = TestStore::new();
    store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    let start = Instant::now();
    let outcome = run(&engine(&store)).await.unwrap();
    let Outcome::Unrecorded { value: 1, error } = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(start.elapsed() > LEASE - Duration::from_secs(2) && start.elapsed() <= LEASE);
    assert_eq!((store.calls(Operation::Release), store.calls(Operation::Abandon)), (0, 0));
    // The heartbeat kept the key for as long as the completion was tried; now its lease runs out.
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::InFlight { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_may_have_taken_effect_is_unrecorded_as_unknown() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::ReplyLost);
    store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    let outcome = run(&engine(&store)).await.unwrap();
    let Outcome::Unrecorded { value: 1, error } = outcome else { panic!("{outcome:?}") };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::Unknown));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_is_recorded_as_not_kept() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::Refused(StoreErrorKind::TooLarge));
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::Executed(1)));
    assert!(matches!(run(&engine(&store)).await.unwrap(), Outcome::NotKept));
}

#[tokio::test(start_paused = true)]
async fn a_zombie_gets_the_accepted_answer_and_its_own_value_is_dropped() {
    let store = TestStore::new();
    let other = store.clone();
    let handler = async |_| {
        let thief = other.steal(&key());
        let response = StoredValue { format: idem_core::Codec::Json.format(0), body: "99".into() };
        let _ = other.complete(&key(), thief, Completion::new(response, span(LEASE))).await.unwrap();
        Ok::<u32, String>(1)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::Replayed(99)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_successors_answer_was_not_kept_gets_not_kept() {
    let store = TestStore::new();
    let other = store.clone();
    let handler = async |_| {
        let thief = other.steal(&key());
        let completion = Completion::new(idem_core::Answer::NotKept, span(LEASE));
        let _ = other.complete(&key(), thief, completion).await.unwrap();
        Ok::<u32, String>(1)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::NotKept), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_successor_still_runs_has_lost_its_lease() {
    let store = TestStore::new();
    let other = store.clone();
    let handler = async |_| {
        other.steal(&key());
        Ok::<u32, String>(1)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::LeaseLost(1)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_key_went_to_another_payload_sees_no_bytes() {
    let store = TestStore::new();
    let other = store.clone();
    let handler = async |_| {
        let thief = other.steal(&key());
        let _ = other.release(&key(), thief).await.unwrap();
        let next = OwnerToken::random();
        let request = ReserveRequest::new(next, Fingerprint::from_parts(["another payload"]), span(LEASE));
        let _ = other.reserve(&key(), request).await.unwrap();
        let response = StoredValue { format: idem_core::Codec::Json.format(0), body: "99".into() };
        let _ = other.complete(&key(), next, Completion::new(response, span(LEASE))).await.unwrap();
        Ok::<u32, String>(1)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::LeaseLost(1)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_that_cannot_read_the_accepted_answer_has_lost_its_lease() {
    let store = TestStore::new();
    let other = store.clone();
    let handler = async |_| {
        other.steal(&key());
        other.fail_all(Operation::Get, Fault::Refused(StoreErrorKind::Corrupt));
        Ok::<u32, String>(1)
    };
    let outcome = engine(&store).execute(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::LeaseLost(1)), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handlers_error_is_returned_even_if_the_release_fails_and_is_retried() {
    let store = TestStore::new();
    store.fail_all(Operation::Release, Fault::Refused(StoreErrorKind::Unavailable));
    let engine = engine(&store);
    let handler = async |_| Err::<u32, _>("declined".to_owned());
    let start = Instant::now();
    let result = engine.execute(&key(), &fingerprint(), handler).await;
    assert!(matches!(result, Err(ExecuteError::Handler(_))));
    assert!(start.elapsed() <= Duration::from_secs(5));
    store.heal();
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(run(&engine).await.unwrap(), Outcome::Executed(1)));
}
