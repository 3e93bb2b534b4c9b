//! Crash: processes that are killed, and servers. Needs a backend that outlives its process.

use idem_core::CompleteOutcome;
use idem_core::store::ReserveOutcome;

use crate::caller::bytes;
use crate::case::{Setting, cases};
use crate::child::{Child, Task};
use crate::context::{Context, HOUR, MILLI, key};

cases![Store:
    n83_after_a_kill_the_next_owner_is_attempt_2_once_the_lease_is_over [Has(OutlivesProcess)],
    n84_after_a_kill_an_acknowledged_answer_is_replayed [Has(OutlivesProcess)],
    n85_a_killed_server_keeps_what_it_acknowledged [Has(KillServer)],
    n86_after_a_kill_during_the_first_opening_the_next_one_works [Has(OutlivesProcess)],
    n87_eight_processes_open_a_new_store_at_once [Has(OutlivesProcess)],
    n87_of_eight_processes_one_reserves_a_key [Has(OutlivesProcess)],
];

async fn n83_after_a_kill_the_next_owner_is_attempt_2_once_the_lease_is_over(cx: Context) {
    let location = cx.harness().new_location();
    let mut child = Child::start(&Task::Reserve { lease: cx.span() }, &location);
    assert_eq!(child.said(), "reserved");
    child.kill();
    let cx = reopened(&cx, &location).await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n84_after_a_kill_an_acknowledged_answer_is_replayed(cx: Context) {
    let location = cx.harness().new_location();
    let mut child = Child::start(&Task::Complete, &location);
    assert_eq!(child.said(), "completed");
    child.kill();
    let cx = reopened(&cx, &location).await;
    match cx.caller().reserve().await {
        ReserveOutcome::Completed { answer, .. } => assert!(answer == bytes(Task::ANSWER)),
        other => panic!("{other:?}"),
    }
}

async fn n85_a_killed_server_keeps_what_it_acknowledged(cx: Context) {
    let (done, running) = (cx.caller(), cx.caller_of(&key("tenant", "another request")));
    done.reserved().await;
    done.completed("an answer").await;
    running.reserved().await;
    cx.instance().kill_server().await;
    let handle = cx.second_handle().await;
    let replayed = cx.caller().through(handle.clone()).reserve().await;
    assert!(matches!(replayed, ReserveOutcome::Completed { .. }), "{replayed:?}");
    assert_eq!(running.through(handle).complete("an answer").await, CompleteOutcome::Completed);
}

/// Wherever the kill falls, the next opening has to work; the delays only let it fall in different places.
async fn n86_after_a_kill_during_the_first_opening_the_next_one_works(cx: Context) {
    for step in 0..10 {
        let location = cx.harness().new_location();
        let child = Child::start(&Task::Open, &location);
        std::thread::sleep(MILLI * step);
        child.kill();
        let cx = reopened(&cx, &location).await;
        assert_eq!(cx.caller().reserved().await.attempt, 1);
    }
}

async fn n87_eight_processes_open_a_new_store_at_once(cx: Context) {
    let location = cx.harness().new_location();
    let children: Vec<_> = (0..8).map(|_| Child::start(&Task::Open, &location)).collect();
    for mut child in children {
        assert_eq!(child.said(), "opened");
    }
}

async fn n87_of_eight_processes_one_reserves_a_key(cx: Context) {
    let location = cx.harness().new_location();
    let task = Task::Reserve { lease: HOUR };
    let mut children: Vec<_> = (0..8).map(|_| Child::start(&task, &location)).collect();
    let mut said: Vec<_> = children.iter_mut().map(Child::said).collect();
    said.sort();
    assert_eq!((&*said[0], &*said[6], &*said[7]), ("in flight", "in flight", "reserved"));
}

/// The store at `location`, opened by this process.
async fn reopened(cx: &Context, location: &str) -> Context {
    let instance = cx.harness().open(location).await;
    Context::over(cx.harness().clone(), instance, Setting::Store)
}
