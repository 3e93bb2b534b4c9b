//! Futures that are dropped, and handlers that panic.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use idem_core::store::StateView;
use idem_core::{
    Attempt, Codec, ExecuteError, Operation, Outcome, ReservationStore, StoreErrorKind, StoredValue,
};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::support::{
    Fault, LEASE, TestStore, attempt_number, engine, fingerprint, granted, key, until_called,
};

#[tokio::test(start_paused = true)]
async fn a_panic_abandons_the_key_before_it_continues_in_the_caller() {
    let store = TestStore::new();
    let engine = engine(&store);
    let panicking = engine.clone();
    let handler = async |_| -> Result<u32, String> { panic!("the handler's own message") };
    let task = tokio::spawn(async move { panicking.execute(&key(), &fingerprint(), handler).await });
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the handler's own message"));
    assert_eq!(store.calls(Operation::Abandon), 1);
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_of_the_handler_is_caught_too() {
    let store = TestStore::new();
    let engine = engine(&store);
    let panicking = engine.clone();
    let task = tokio::spawn(async move {
        #[expect(unreachable_code, reason = "the closure panics before it makes its future")]
        let handler = |_| {
            panic!("no future at all");
            std::future::ready(Ok::<u32, String>(1))
        };
        panicking.execute(&key(), &fingerprint(), handler).await
    });
    assert!(task.await.unwrap_err().is_panic());
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_run_is_abandoned_and_the_next_caller_is_attempt_two() {
    let store = TestStore::new();
    let engine = engine(&store);
    let handler = async |_| {
        std::future::pending::<()>().await;
        Ok::<u32, String>(1)
    };
    let dropped = timeout(Duration::from_secs(1), engine.execute(&key(), &fingerprint(), handler)).await;
    assert!(dropped.is_err());
    until_called(&store, Operation::Abandon, 1).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_run_dropped_after_its_handler_returned_is_still_completed() {
    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::Slow(Duration::from_secs(5)));
    let engine = engine(&store);
    let handler = async |_| Ok::<u32, String>(7);
    let dropped = timeout(Duration::from_secs(1), engine.execute(&key(), &fingerprint(), handler)).await;
    assert!(dropped.is_err());
    until_called(&store, Operation::Complete, 2).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Replayed(7)));
    assert_eq!(store.calls(Operation::Abandon), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_dropped_during_its_release_is_still_released() {
    let store = TestStore::new();
    store.fail_next(Operation::Release, Fault::Stuck);
    let engine = engine(&store);
    let handler = async |_| Err::<u32, _>("declined".to_owned());
    let dropped = timeout(Duration::from_secs(1), engine.execute(&key(), &fingerprint(), handler)).await;
    assert!(dropped.is_err());
    until_called(&store, Operation::Release, 2).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_dropped_before_its_answer_came_is_released() {
    let store = TestStore::new();
    // It takes effect, and its reply never arrives.
    store.fail_next(Operation::Reserve, Fault::Silent);
    let engine = engine(&store);
    let dropped = timeout(Duration::from_secs(1), engine.reserve(&key(), &fingerprint())).await;
    assert!(dropped.is_err());
    until_called(&store, Operation::Release, 1).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_detached_handler_outlives_its_caller_and_the_retry_is_a_replay() {
    let store = TestStore::new();
    let engine = engine(&store);
    let handler = async |_| {
        sleep(Duration::from_secs(10)).await;
        Ok::<u32, String>(7)
    };
    let hung_up =
        timeout(Duration::from_secs(1), engine.execute_detached(&key(), &fingerprint(), handler)).await;
    assert!(hung_up.is_err());
    assert!(matches!(attempt_number(&engine).await, Outcome::InFlight { .. }));
    sleep(Duration::from_secs(10)).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Replayed(7)));
}

#[tokio::test(start_paused = true)]
async fn a_detached_handler_gives_its_value_its_error_and_its_panic_to_its_caller() {
    let engine = engine(&TestStore::new());
    let outcome =
        engine.execute_detached(&key(), &fingerprint(), async |_| Err::<u32, _>("no".to_owned())).await;
    assert!(matches!(outcome, Err(ExecuteError::Handler(error)) if error == "no"));

    let panicking = engine.clone();
    let task = tokio::spawn(async move {
        let handler = async |_| -> Result<u32, String> { panic!("in the detached task") };
        panicking.execute_detached(&key(), &fingerprint(), handler).await
    });
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the detached task"));

    let outcome = engine.execute_detached(&key(), &fingerprint(), async |_| Ok::<_, String>(3_u32)).await;
    assert!(matches!(outcome.unwrap(), Outcome::Executed(3)));
}

#[tokio::test(start_paused = true)]
async fn an_abandon_that_fails_is_tried_again_in_the_background() {
    let store = TestStore::new();
    store.fail_next(Operation::Abandon, Fault::Refused(StoreErrorKind::Unavailable));
    store.fail_next(Operation::Abandon, Fault::ReplyLost);
    let engine = engine(&store);
    drop(engine.reserve(&key(), &fingerprint()).await.unwrap());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.calls(Operation::Abandon), 3);
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
}

#[test]
fn without_a_runtime_a_dropped_reservation_waits_for_its_lease() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = TestStore::new();
    let engine = engine(&store);
    let reservation = runtime.block_on(engine.reserve(&key(), &fingerprint())).unwrap();
    drop(runtime);
    drop(reservation); // Must not panic.
    assert_eq!(store.calls(Operation::Abandon), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_returned_is_completed_even_if_its_lease_is_over() {
    let store = TestStore::new();
    store.fail_all(Operation::Renew, Fault::Silent);
    let engine = engine(&store);
    let done = Arc::new(Notify::new());
    let outcome = engine
        .execute(&key(), &fingerprint(), async |_| {
            sleep(LEASE * 2).await;
            done.notify_one();
            Ok::<u32, String>(7)
        })
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::Executed(7)));
    let view = store.get(&key()).await.unwrap().unwrap();
    assert!(matches!(view.state, StateView::Completed { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_an_attempt_is_lost_before_another_attempt_runs() {
    let store = TestStore::new();
    let engine = engine(&store);
    let kept = Mutex::new(None);
    let handler = async |attempt: Attempt| {
        *kept.lock().unwrap() = Some(attempt);
        std::future::pending::<()>().await;
        Ok::<u32, String>(1)
    };
    let dropped = timeout(Duration::from_secs(1), engine.execute(&key(), &fingerprint(), handler)).await;
    assert!(dropped.is_err());
    let kept = kept.lock().unwrap().take().expect("the handler has run");
    assert!(kept.is_lost());
    until_called(&store, Operation::Abandon, 1).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_is_dropped_before_its_first_poll_still_happens() {
    let seven = StoredValue { format: Codec::Json.format(0), body: "7".into() };

    let store = TestStore::new();
    drop(granted(&engine(&store), &key()).await.complete(seven));
    until_called(&store, Operation::Complete, 1).await;
    assert!(matches!(attempt_number(&engine(&store)).await, Outcome::Replayed(7)));

    let store = TestStore::new();
    drop(granted(&engine(&store), &key()).await.release());
    until_called(&store, Operation::Release, 1).await;
    assert!(matches!(attempt_number(&engine(&store)).await, Outcome::Executed(1)));

    let store = TestStore::new();
    drop(granted(&engine(&store), &key()).await.abandon());
    until_called(&store, Operation::Abandon, 1).await;
    assert!(matches!(attempt_number(&engine(&store)).await, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_in_abandon_blocks_the_key_for_one_lease() {
    let store = TestStore::new();
    store.fail_all(Operation::Abandon, Fault::Panic);
    let engine = engine(&store);
    drop(granted(&engine, &key()).await);
    until_called(&store, Operation::Abandon, 1).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::InFlight { .. }));
    sleep(LEASE).await;
    assert!(matches!(attempt_number(&engine).await, Outcome::Executed(2)));
    assert_eq!(store.calls(Operation::Renew), 0);
}

#[test]
fn a_detached_handler_whose_runtime_is_shut_down_is_a_panic_that_says_so() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = engine(&TestStore::new());
    let (started, has_started) = mpsc::channel();
    let handle = runtime.handle().clone();
    let caller = std::thread::spawn(move || {
        let handler = async move |_| {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            Ok::<u32, String>(1)
        };
        handle.block_on(engine.execute_detached(&key(), &fingerprint(), handler))
    });
    has_started.recv_timeout(Duration::from_secs(10)).unwrap();
    runtime.shutdown_background();
    let panic = caller.join().unwrap_err();
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("the runtime of a detached handler was shut down"), "{message}");
}
