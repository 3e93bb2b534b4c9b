//! What `execute` answers while the store works.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{LEASE, TestStore, engine, engine_with, fingerprint, key};
use bytes::Bytes;
use idem_core::store::StateView;
use idem_core::{
    Admission, CodecError, Engine, ExecuteError, ExpiredLeasePolicy, Fingerprint, HandlerErrorPolicy,
    Operation, Outcome, Reservation, ReservationStore, Resolution, StoredValue,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::time::{Instant, advance};

#[test]
fn engines_and_attempts_are_send_and_sync() {
    fn anywhere<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    anywhere::<Engine>();
    anywhere::<idem_core::Attempt>();
}

#[test]
fn every_future_is_send_and_every_result_is_sync() {
    fn sent(_: impl Send) {}
    fn shared<T: Send + Sync>() {}
    shared::<Reservation>();
    shared::<Admission>();
    shared::<Outcome<u32>>();
    shared::<ExecuteError<String>>();

    let engine = engine(&TestStore::new());
    let (key, fingerprint) = (key(), fingerprint());
    sent(engine.execute(&key, &fingerprint, async |_| Ok::<u32, String>(1)));
    sent(engine.execute_detached(&key, &fingerprint, async |_| Ok::<u32, String>(1)));
    sent(engine.execute_bytes(&key, &fingerprint, async |_| Ok::<_, String>(Bytes::new())));
    sent(engine.execute_bytes_detached(&key, &fingerprint, async |_| Ok::<_, String>(Bytes::new())));
    sent(engine.reserve(&key, &fingerprint));
    sent(engine.resolve(&key, Resolution::Release));
    sent(engine.shutdown(Duration::from_secs(1)));
    // It is for the compiler to check; there is no reservation to call them with.
    let _ = |reservation: Reservation| sent(reservation.complete(StoredValue::bytes("done")));
    let _ = |reservation: Reservation| sent(reservation.release());
    let _ = |reservation: Reservation| sent(reservation.abandon());
    let _ = |reservation: &Reservation| sent(reservation.renew());
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    payment: u64,
    attempt: u32,
}

async fn pay(engine: &Engine) -> Result<Outcome<Receipt>, ExecuteError<String>> {
    engine
        .execute(&key(), &fingerprint(), async |attempt| {
            Ok(Receipt { payment: 4711, attempt: attempt.number })
        })
        .await
}

async fn fail(engine: &Engine) -> Result<Outcome<Receipt>, ExecuteError<String>> {
    engine.execute(&key(), &fingerprint(), async |_| Err("card declined".to_owned())).await
}

#[tokio::test(start_paused = true)]
async fn the_first_call_executes_and_the_second_gets_its_answer() {
    let engine = engine(&TestStore::new());
    let receipt = Receipt { payment: 4711, attempt: 1 };
    assert!(matches!(pay(&engine).await.unwrap(), Outcome::Executed(value) if value == receipt));
    assert!(matches!(pay(&engine).await.unwrap(), Outcome::Replayed(value) if value == receipt));
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_a_running_call_learns_when_to_ask_again() {
    let engine = engine(&TestStore::new());
    let duplicate = engine.clone();
    let outcome = engine
        .execute(&key(), &fingerprint(), async |_| {
            advance(Duration::from_secs(10)).await;
            let outcome = pay(&duplicate).await.unwrap();
            assert!(
                matches!(outcome, Outcome::InFlight { retry_after } if retry_after == Duration::from_secs(50))
            );
            Ok::<_, String>(1_u8)
        })
        .await;
    assert!(matches!(outcome.unwrap(), Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn another_payload_under_the_same_key_is_a_mismatch_and_does_not_run() {
    let engine = engine(&TestStore::new());
    let _ = pay(&engine).await.unwrap();
    let other = Fingerprint::from_parts(["another payload"]);
    let outcome =
        engine.execute(&key(), &other, async |_| -> Result<u8, String> { panic!("must not run") }).await;
    assert!(matches!(outcome.unwrap(), Outcome::FingerprintMismatch));
}

#[tokio::test(start_paused = true)]
async fn a_handler_error_frees_the_key_and_is_returned_untouched() {
    let store = TestStore::new();
    let engine = engine(&store);
    assert!(matches!(fail(&engine).await, Err(ExecuteError::Handler(error)) if error == "card declined"));
    assert_eq!(store.get(&key()).await.unwrap(), None);
    assert!(matches!(pay(&engine).await.unwrap(), Outcome::Executed(Receipt { attempt: 1, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_handler_error_abandons_the_key_under_the_abandon_policy() {
    let engine =
        engine_with(&TestStore::new(), |settings| settings.handler_error(HandlerErrorPolicy::Abandon));
    assert!(matches!(fail(&engine).await, Err(ExecuteError::Handler(_))));
    assert!(matches!(pay(&engine).await.unwrap(), Outcome::Executed(Receipt { attempt: 2, .. })));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_stored_and_replayed_without_a_copy() {
    let engine = engine(&TestStore::new());
    let body = Bytes::from(vec![0, 159, 146, 150]);
    let handler = async |_| Ok::<_, String>(body.clone());
    let first = engine.execute_bytes(&key(), &fingerprint(), handler).await.unwrap();
    assert!(matches!(first, Outcome::Executed(value) if value == body));
    let Outcome::Replayed(replayed) = engine.execute_bytes(&key(), &fingerprint(), handler).await.unwrap()
    else {
        panic!("the second call is a replay");
    };
    assert_eq!(replayed.as_ptr(), body.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn detached_bytes_are_stored_although_the_caller_went_away() {
    let engine = engine(&TestStore::new());
    let handler = async |_| {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, String>(Bytes::from_static(b"done"))
    };
    let (key, fingerprint) = (key(), fingerprint());
    let detached = engine.execute_bytes_detached(&key, &fingerprint, handler);
    assert!(tokio::time::timeout(Duration::from_secs(1), detached).await.is_err());
    advance(Duration::from_secs(10)).await;
    let again = engine.execute_bytes_detached(&key, &fingerprint, handler).await.unwrap();
    assert!(matches!(again, Outcome::Replayed(value) if value == "done"));
}

#[tokio::test(start_paused = true)]
async fn another_schema_or_codec_is_an_error_and_never_another_run() {
    let store = TestStore::new();
    let _ = pay(&engine(&store)).await.unwrap();

    let error = pay(&engine_with(&store, |settings| settings.schema(1))).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Codec(CodecError::FormatMismatch { .. })), "{error}");

    let bytes = async |_| -> Result<Bytes, String> { panic!("must not run") };
    let error = engine(&store).execute_bytes(&key(), &fingerprint(), bytes).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Codec(CodecError::FormatMismatch { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_cannot_be_encoded_is_an_error_and_its_duplicates_do_not_run() {
    let engine = engine(&TestStore::new());
    let handler = async |_| {
        Ok::<_, String>(std::collections::HashMap::from([((1, 2), "keys must be strings".to_owned())]))
    };
    let error = engine.execute(&key(), &fingerprint(), handler).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Codec(CodecError::Encode(_))));
    let again = engine.execute(&key(), &fingerprint(), handler).await;
    assert!(matches!(again.unwrap(), Outcome::NotKept));
}

/// A value whose encoding panics.
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("it cannot be encoded")
    }
}

impl<'de> Deserialize<'de> for Unencodable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_encoding_panics_is_recorded_as_not_kept_before_the_panic() {
    let engine = engine(&TestStore::new());
    let panicking = engine.clone();
    let handler = async |_| Ok::<_, String>(Unencodable);
    let task =
        tokio::spawn(async move { panicking.execute(&key(), &fingerprint(), handler).await.map(drop) });
    let panic = task.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"it cannot be encoded"));
    assert!(matches!(pay(&engine).await.unwrap(), Outcome::NotKept));
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_is_taken_over_as_the_next_attempt_or_refused_as_set() {
    let store = TestStore::new();
    store.reserved_elsewhere(&key()).await;
    advance(LEASE).await;

    let refusing = engine_with(&store, |settings| settings.expired_lease(ExpiredLeasePolicy::Refuse));
    assert!(matches!(pay(&refusing).await.unwrap(), Outcome::LeaseExpired { attempt: 1 }));
    assert!(matches!(pay(&engine(&store)).await.unwrap(), Outcome::Executed(Receipt { attempt: 2, .. })));
}

#[tokio::test(start_paused = true)]
async fn retention_counts_from_the_completion() {
    let store = TestStore::new();
    let engine = engine_with(&store, |settings| settings.retention(Duration::from_secs(3600)));
    let slow = engine
        .execute(&key(), &fingerprint(), async |_| {
            tokio::time::sleep(Duration::from_secs(100)).await;
            Ok::<_, String>(1_u8)
        })
        .await;
    assert!(matches!(slow.unwrap(), Outcome::Executed(1)));
    advance(Duration::from_secs(3599)).await;
    let replay = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(2_u8)).await;
    assert!(matches!(replay.unwrap(), Outcome::Replayed(1)));
    advance(Duration::from_secs(1)).await;
    let new_life = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(2_u8)).await;
    assert!(matches!(new_life.unwrap(), Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn a_fast_handler_costs_one_reserve_and_one_complete() {
    let store = TestStore::new();
    let _ = pay(&engine(&store)).await.unwrap();
    let calls =
        [Operation::Reserve, Operation::Complete, Operation::Get, Operation::Renew].map(|op| store.calls(op));
    assert_eq!(calls, [1, 1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_at_once_run_one_handler() {
    let engine = engine(&TestStore::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(tokio::sync::Barrier::new(64));
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let (engine, runs, barrier) = (engine.clone(), Arc::clone(&runs), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                let handler = async |_| Ok::<_, String>(runs.fetch_add(1, Ordering::SeqCst));
                engine.execute(&key(), &fingerprint(), handler).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert!(matches!(
            caller.await.unwrap(),
            Outcome::Executed(0) | Outcome::Replayed(0) | Outcome::InFlight { .. }
        ));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn the_record_shows_the_answer_as_soon_as_execute_returns() {
    let store = TestStore::new();
    let start = Instant::now();
    let _ = pay(&engine(&store)).await.unwrap();
    let view = store.get(&key()).await.unwrap().unwrap();
    assert!(matches!(view.state, StateView::Completed { age, .. } if age == start.elapsed()));
}
