//! Crash: killed processes and killed servers. Needs a backend whose data outlives its process.

use idem_core::CompleteOutcome;
use idem_core::store::ReserveOutcome;

use crate::case::{Context, cases};
use crate::process::{Child, Task};
use crate::values::{HOUR, MILLI, bytes, key};

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
    let mut child = Child::start(cx.harness_name(), &Task::Reserve { lease: cx.span() }, &location);
    assert_eq!(child.word(), "reserved");
    child.kill();
    let cx = reopened(&cx, &location).await;
    cx.pass(cx.span()).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n84_after_a_kill_an_acknowledged_answer_is_replayed(cx: Context) {
    let location = cx.harness().new_location();
    let mut child = Child::start(cx.harness_name(), &Task::Complete, &location);
    assert_eq!(child.word(), "completed");
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

/// Whenever the kill comes, the next opening must work. The delays let it come at different times.
async fn n86_after_a_kill_during_the_first_opening_the_next_one_works(cx: Context) {
    for step in 0..10 {
        let location = cx.harness().new_location();
        let child = Child::start(cx.harness_name(), &Task::Open, &location);
        std::thread::sleep(MILLI * step);
        child.kill();
        let cx = reopened(&cx, &location).await;
        assert_eq!(cx.caller().reserved().await.attempt, 1);
    }
}

async fn n87_eight_processes_open_a_new_store_at_once(cx: Context) {
    let location = cx.harness().new_location();
    let children: Vec<_> = (0..8).map(|_| Child::start(cx.harness_name(), &Task::Open, &location)).collect();
    for mut child in children {
        assert_eq!(child.word(), "opened");
    }
}

async fn n87_of_eight_processes_one_reserves_a_key(cx: Context) {
    let location = cx.harness().new_location();
    let task = Task::Reserve { lease: HOUR };
    let mut children: Vec<_> = (0..8).map(|_| Child::start(cx.harness_name(), &task, &location)).collect();
    let mut words: Vec<_> = children.iter_mut().map(Child::word).collect();
    words.sort();
    assert_eq!((&*words[0], &*words[6], &*words[7]), ("in flight", "in flight", "reserved"));
}

/// The store at `location`, opened by this process.
async fn reopened(cx: &Context, location: &str) -> Context {
    let instance = cx.harness().open(location).await;
    cx.over(instance)
}
