//! Shutting down.

use std::error::Error;
use std::time::Duration;

use idem_core::{Attempt, EngineShutdown, ExecuteError, Operation, Outcome, StoreErrorKind};
use tokio::time::{Instant, sleep};

use crate::support::{Fault, TestStore, engine, fingerprint, key};

fn run(engine: &idem_core::Engine, name: &str, takes: Duration) -> tokio::task::JoinHandle<()> {
    let (engine, key) = (engine.clone(), idem_core::Key::new("scope", name).unwrap());
    tokio::spawn(async move {
        let handler = async move |_: Attempt| {
            sleep(takes).await;
            Ok::<_, String>(1_u8)
        };
        let _ = engine.execute_detached(&key, &fingerprint(), handler).await;
    })
}

#[tokio::test(start_paused = true)]
async fn it_refuses_new_runs_awaits_those_under_way_and_abandons_the_rest() {
    let store = TestStore::new();
    let engine = engine(&store);
    for (name, seconds) in [("short", 1), ("longer", 9), ("too long", 100)] {
        run(&engine, name, Duration::from_secs(seconds));
    }
    sleep(Duration::from_millis(10)).await;
    let start = Instant::now();
    let report = engine.shutdown(Duration::from_secs(10)).await;
    assert_eq!((report.drained, report.abandoned, report.unsettled), (2, 1, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(10));

    let refused = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(1_u8)).await;
    let Err(ExecuteError::Store(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.kind, StoreErrorKind::Unavailable);
    assert!(error.source().unwrap().downcast_ref::<EngineShutdown>().is_some());

    // What was abandoned may run again at once, elsewhere.
    let elsewhere = crate::support::engine(&store);
    let too_long = idem_core::Key::new("scope", "too long").unwrap();
    let handler = async |attempt: Attempt| Ok::<_, String>(attempt.number);
    let outcome = elsewhere.execute(&too_long, &fingerprint(), handler).await.unwrap();
    assert!(matches!(outcome, Outcome::Executed(2)));
}

#[tokio::test(start_paused = true)]
async fn it_returns_as_soon_as_the_last_run_is_over() {
    let engine = engine(&TestStore::new());
    run(&engine, "short", Duration::from_secs(3));
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    let report = engine.shutdown(Duration::from_secs(1000)).await;
    assert_eq!((report.drained, report.abandoned), (1, 0));
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    assert_eq!(engine.shutdown(Duration::from_secs(1000)).await.drained, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_outlives_it_is_told_by_its_next_heartbeat() {
    let store = TestStore::new();
    let engine = engine(&store);
    let stopping = engine.clone();
    let handler = async |attempt: Attempt| {
        assert_eq!(stopping.shutdown(Duration::from_secs(1)).await.abandoned, 1);
        attempt.lost().await;
        Ok::<_, String>(1_u8)
    };
    let outcome = engine.execute(&key(), &fingerprint(), handler).await.unwrap();
    // Nobody has taken the key, so its answer is still the answer.
    assert!(matches!(outcome, Outcome::Executed(1)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_reported_and_does_not_hold_it_up() {
    for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::Stuck] {
        let store = TestStore::new();
        store.fail_all(Operation::Abandon, fault);
        let engine = engine(&store);
        for number in 0..1000 {
            run(&engine, &format!("hung {number}"), Duration::from_secs(100_000));
        }
        sleep(Duration::from_millis(10)).await;
        let start = Instant::now();
        let report = engine.shutdown(Duration::from_secs(1)).await;
        assert_eq!((report.abandoned, report.unsettled), (0, 1000));
        assert!(start.elapsed() <= Duration::from_millis(6100), "{:?}", start.elapsed());
    }
}
