//! `Engine::reserve`, its reservations and receipts.

use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, Span};
use idem_core::{
    AbandonOutcome, Admission, Answer, Attempt, CompleteOutcome, Engine, EngineBuilder, Fingerprint,
    FinishOutcome, InFlightPolicy, InvalidPolicy, Operation, Outcome, ReceiptOutcome, ReleaseOutcome,
    RenewOutcome, Reservation, ReservationStore, StoreErrorKind, StoredValue, backend,
};
use tokio::time::{sleep, timeout};

use crate::support::{
    Fault, TestStore, attempt_number, engine, fingerprint, granted, key, span, waiting_engine,
};

#[tokio::test(start_paused = true)]
async fn a_completed_reservation_is_replayed() {
    let engine = engine(&TestStore::new());
    let outcome = granted(&engine, &key()).await.complete(StoredValue::bytes("done")).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
    let again = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(again, Admission::Replayed(response) if response == StoredValue::bytes("done")));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_protected_until_it_is_lost() {
    let store = TestStore::new();
    let reservation = granted(&engine(&store), &key()).await;
    let attempt = reservation.attempt();
    assert!(!attempt.is_unprotected() && !attempt.is_lost());
    let (fence, shown) = (attempt.fence, format!("{attempt:?}"));
    let expected = format!("Attempt {{ number: 1, fence: {fence:?}, lost: false, unprotected: false, .. }}");
    assert_eq!(shown, expected);

    store.steal(&key());
    assert_eq!(reservation.renew().await.unwrap(), RenewOutcome::Lost);
    assert!(attempt.is_lost() && format!("{attempt:?}").contains("lost: true"));
}

/// What becomes of a reservation that was handed out: its outcome is what `end` makes of it.
async fn receipt_after(end: impl AsyncFnOnce(&TestStore, Reservation)) -> ReceiptOutcome {
    let store = TestStore::new();
    let (reservation, receipt) = granted(&engine(&store), &key()).await.hand_out();
    end(&store, reservation).await;
    receipt.outcome().await
}

/// Another process takes the key over, as attempt 2.
async fn take_over(store: &TestStore, reservation: &Reservation) -> OwnerToken {
    let abandoned = store.abandon(&key(), backend::owner(reservation)).await.unwrap();
    assert_eq!(abandoned, AbandonOutcome::Abandoned);
    store.reserved_elsewhere(&key()).await
}

fn completion(body: &'static str) -> Completion {
    Completion::new(StoredValue::bytes(body), span(Duration::from_secs(60)))
}

#[tokio::test(start_paused = true)]
async fn a_receipt_returns_the_accepted_answer_of_this_run_or_another() {
    let own = receipt_after(async |_, reservation| {
        assert_eq!(
            reservation.complete(StoredValue::bytes("own")).await.unwrap(),
            CompleteOutcome::Completed
        );
    });
    assert!(matches!(own.await, ReceiptOutcome::Completed(answer) if answer == completion("own").answer));
    let other = receipt_after(async |store, reservation| {
        let winner = take_over(store, &reservation).await;
        let completed = store.complete(&key(), winner, completion("other")).await.unwrap();
        assert_eq!(completed, CompleteOutcome::Completed);
    });
    assert!(matches!(other.await, ReceiptOutcome::Completed(answer) if answer == completion("other").answer));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_a_run_that_gave_its_key_back_is_not_completed() {
    let released = receipt_after(async |_, reservation| drop(reservation.release().await));
    assert!(matches!(released.await, ReceiptOutcome::NotCompleted));
    let dropped = receipt_after(async |_, reservation| drop(reservation));
    assert!(matches!(dropped.await, ReceiptOutcome::NotCompleted));
    let reserved_again = receipt_after(async |store, reservation| {
        drop(reservation.release().await);
        store.reserved_elsewhere(&key()).await;
    });
    assert!(matches!(reserved_again.await, ReceiptOutcome::ReservedAgain));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_a_run_that_lost_its_key_says_so_after_a_release_of_the_winner_too() {
    let taken_over = receipt_after(async |store, reservation| {
        take_over(store, &reservation).await;
    });
    assert!(matches!(taken_over.await, ReceiptOutcome::LeaseLost));
    let released = receipt_after(async |store, reservation| {
        let winner = take_over(store, &reservation).await;
        assert_eq!(store.release(&key(), winner).await.unwrap(), ReleaseOutcome::Released);
    });
    assert!(matches!(released.await, ReceiptOutcome::LeaseLost));
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_unknown_while_the_store_cannot_be_asked() {
    let unknown = receipt_after(async |store, _reservation| {
        store.fail_all(Operation::Get, Fault::Refused(StoreErrorKind::Unavailable));
    });
    assert!(
        matches!(unknown.await, ReceiptOutcome::Unknown(error) if error.kind == StoreErrorKind::Unavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_receipt_takes_the_key_from_a_run_that_is_still_in_flight() {
    let store = TestStore::new();
    let engine = engine(&store);
    let (reservation, receipt) = granted(&engine, &key()).await.hand_out();
    assert!(matches!(receipt.outcome().await, ReceiptOutcome::NotCompleted));
    assert!(reservation.attempt().is_lost(), "its handler learns of it at once");
    assert_eq!(granted(&engine, &key()).await.attempt().number, 2);
}

#[tokio::test(start_paused = true)]
async fn finish_says_which_answer_is_the_requests() {
    let store = TestStore::new();
    let engine = engine(&store);
    let answer = |body| Answer::from(StoredValue::bytes(body));
    for end in 0..4 {
        let key = idem_core::Key::new("finish", end.to_string()).unwrap();
        let reservation = granted(&engine, &key).await;
        match end {
            0 => {}
            1 | 2 => {
                let thief = store.steal(&key);
                if end == 1 {
                    let completion = Completion::new(answer("theirs"), span(Duration::from_secs(60)));
                    let accepted = store.complete(&key, thief, completion).await.unwrap();
                    assert_eq!(accepted, CompleteOutcome::Completed);
                }
            }
            _ => store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable)),
        }
        let finished = reservation.finish(answer("mine")).await;
        let is_right = match end {
            0 => matches!(finished, FinishOutcome::Accepted),
            1 => matches!(&finished, FinishOutcome::Superseded(found) if *found == answer("theirs")),
            2 => matches!(finished, FinishOutcome::LeaseLost),
            _ => {
                matches!(&finished, FinishOutcome::Unrecorded(error) if error.kind == StoreErrorKind::Unavailable)
            }
        };
        assert!(is_right, "{end}: {finished:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn mark_committed_settles_the_run_and_answers_its_waiters() {
    let store = TestStore::new();
    let engine = waiting_engine(&store, Duration::from_secs(30));
    let reservation = granted(&engine, &key()).await;
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.reserve(&key(), &fingerprint()).await.unwrap() }
    });
    tokio::task::yield_now().await;
    // A transaction of the backend, unknown to the engine.
    let answer = Answer::from(StoredValue::bytes("committed"));
    let completion = Completion::new(answer.clone(), backend::retention(&reservation));
    let completed =
        store.complete(reservation.key(), backend::owner(&reservation), completion).await.unwrap();
    assert_eq!(completed, CompleteOutcome::Completed);
    let calls = store.all_calls();
    backend::mark_committed(reservation, &answer);
    assert!(matches!(waiter.await.unwrap(), Admission::Replayed(response) if response.body == "committed"));
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(store.all_calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_released_key_is_free_as_attempt_1() {
    let engine = engine(&TestStore::new());
    assert_eq!(granted(&engine, &key()).await.release().await.unwrap(), ReleaseOutcome::Released);
    assert_eq!(granted(&engine, &key()).await.attempt().number, 1);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_key_is_taken_over_at_once() {
    let engine = engine(&TestStore::new());
    assert_eq!(granted(&engine, &key()).await.abandon().await.unwrap(), AbandonOutcome::Abandoned);
    assert_eq!(granted(&engine, &key()).await.attempt().number, 2);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_gets_lost_whatever_it_does() {
    let store = TestStore::new();
    let engine = engine(&store);
    for end in 0..3 {
        let reservation = granted(&engine, &key()).await;
        let thief = store.steal(&key());
        match end {
            0 => assert_eq!(
                reservation.complete(StoredValue::bytes("x")).await.unwrap(),
                CompleteOutcome::Lost
            ),
            1 => assert_eq!(reservation.release().await.unwrap(), ReleaseOutcome::Lost),
            _ => assert_eq!(reservation.abandon().await.unwrap(), AbandonOutcome::Lost),
        }
        let _ = store.release(&key(), thief).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_caller_learns_why() {
    let engine = engine(&TestStore::new());
    let held = granted(&engine, &key()).await;
    let refused = engine.reserve(&key(), &fingerprint()).await.unwrap();
    assert!(matches!(refused, Admission::InFlight { .. }));
    let refused = engine.reserve(&key(), &Fingerprint::from_parts(["another payload"])).await.unwrap();
    assert!(matches!(refused, Admission::FingerprintMismatch));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn fences_increase_and_the_downstream_key_stays() {
    let engine = engine(&TestStore::new());
    let first = granted(&engine, &key()).await;
    let (fence, downstream) = (first.attempt().fence, first.attempt().downstream_key());
    let _ = first.abandon().await.unwrap();
    let second = granted(&engine, &key()).await;
    assert!(second.attempt().fence > fence);
    assert_eq!(second.attempt().downstream_key(), downstream);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_the_keys_digest_and_no_token() {
    let engine = engine(&TestStore::new());
    let shown = format!("{:?}", granted(&engine, &key()).await);
    assert!(shown.contains(&key().digest().to_string()) && !shown.contains("owner"), "{shown}");
    assert!(format!("{engine:?}").starts_with("Engine { store: TestStore"));
}

type Setting = (&'static str, fn(EngineBuilder, Duration) -> EngineBuilder);

#[tokio::test]
async fn settings_that_cannot_work_are_refused_by_name() {
    let settings: [Setting; 7] = [
        ("lease", EngineBuilder::lease),
        ("retention", EngineBuilder::retention),
        ("record_ttl", EngineBuilder::record_ttl),
        ("max_renewal", EngineBuilder::max_renewal),
        ("reserve_timeout", EngineBuilder::reserve_timeout),
        ("complete_timeout", EngineBuilder::complete_timeout),
        ("in_flight timeout", |builder, timeout| builder.in_flight(InFlightPolicy::Wait { timeout })),
    ];
    for (name, set) in settings {
        for wrong in [Duration::ZERO, Span::MAX.as_duration() + Duration::from_secs(1)] {
            let refused: Result<Engine, InvalidPolicy> =
                set(Engine::builder(TestStore::new()), wrong).build();
            let error = refused.unwrap_err();
            assert_eq!(error.setting, name);
            assert!(error.to_string().contains("more than zero and at most ten years"), "{error}");
        }
        assert!(set(Engine::builder(TestStore::new()), Span::MAX.as_duration()).build().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_settings_work() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::ReplyLost);
    let engine = Engine::builder(store)
        .lease(Span::MAX.as_duration())
        .retention(Span::MAX.as_duration())
        .record_ttl(Span::MAX.as_duration())
        .max_renewal(Span::MAX.as_duration())
        .reserve_timeout(Span::MAX.as_duration())
        .complete_timeout(Span::MAX.as_duration())
        .in_flight(InFlightPolicy::Wait { timeout: Span::MAX.as_duration() })
        .build()
        .unwrap();
    let running = engine.clone();
    let run = tokio::spawn(async move {
        let handler = async |attempt: Attempt| {
            assert!(timeout(Duration::from_secs(5), attempt.lost()).await.is_err());
            sleep(Span::MAX.as_duration() / 2).await;
            Ok::<_, String>(attempt.number)
        };
        running.execute(&key(), &fingerprint(), handler).await.unwrap()
    });
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Replayed(1)));
    assert!(matches!(run.await.unwrap(), Outcome::Executed(1)));
}
