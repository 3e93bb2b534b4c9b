//! Several processes on one file, and what becomes of a request when its process ends.

use serde_json::json;

use crate::support::Files;

const ORDERS: &str = r#"{"name": "orders"}"#;

#[test]
fn while_one_process_is_held_in_its_handler_another_one_answers_409_and_does_not_run() {
    let files = Files::new();
    let (one, other) = (files.serve(&["--simulate"]), files.serve(&["--simulate"]));
    let held = files.hold_handlers();
    let first = one.creating("a", ORDERS);
    files.until_reserved(1);

    let duplicate = other.create(Some("a"), ORDERS);
    assert_eq!((duplicate.status, &duplicate.json()["code"]), (409, &json!("idempotency_key_in_progress")));
    // Only now may the first one end.
    held.let_go();
    let first = first.join().unwrap();
    assert_eq!((first.status, first.is_replay), (201, false));

    let replay = other.create(Some("a"), ORDERS);
    assert_eq!((replay.status, replay.is_replay, replay.body), (201, true, first.body));
    assert_eq!(other.ledger().len(), 1);
}

#[test]
fn a_waiting_duplicate_of_another_process_is_given_the_answer() {
    let files = Files::new();
    let one = files.serve(&["--simulate"]);
    let other = files.serve(&["--in-flight", "wait=25s"]);
    let held = files.hold_handlers();
    let first = one.creating("a", ORDERS);
    files.until_reserved(1);
    let waiting = other.creating("a", ORDERS);
    held.let_go();
    let (first, waiting) = (first.join().unwrap(), waiting.join().unwrap());
    assert_eq!((waiting.status, waiting.is_replay, &waiting.body), (201, true, &first.body));
    assert_eq!(one.ledger().len(), 1);
}

#[test]
fn a_process_that_is_told_to_stop_answers_what_it_has_begun_and_exits_with_0() {
    let files = Files::new();
    let mut service = files.serve(&[]);
    let held = files.hold_handlers();
    let first = service.creating("a", ORDERS);
    files.until_reserved(1);
    service.terminate();
    held.let_go();
    assert_eq!(first.join().unwrap().status, 201);
    assert!(service.wait().success());
}

#[test]
fn an_idle_process_that_is_told_to_stop_exits_with_0() {
    let files = Files::new();
    let mut service = files.serve(&[]);
    service.terminate();
    assert!(service.wait().success());
}

#[test]
fn answers_survive_the_process() {
    let files = Files::new();
    let first = files.serve(&[]).create(Some("a"), ORDERS);
    let replay = files.serve(&[]).create(Some("a"), ORDERS);
    assert_eq!((replay.is_replay, replay.body), (true, first.body));
}

#[test]
fn after_a_crash_the_next_attempt_is_told_that_there_was_one_before() {
    let files = Files::new();
    let abort = r#"{"name": "orders", "simulate": {"outcome": "abort"}}"#;
    let mut crashing = files.serve(&["--simulate", "--lease", "1s"]);
    assert_eq!(crashing.create(Some("a"), abort).status, 0);
    assert!(!crashing.wait().success());

    // The handler of the second attempt would crash as well, so it is another process that is asked what it sees.
    let mut other = files.serve(&["--simulate", "--lease", "1s"]);
    loop {
        // Refused until the lease of the crashed one is over.
        match other.create(Some("a"), abort).status {
            409 => std::thread::yield_now(),
            status => break assert_eq!(status, 0),
        }
    }
    assert!(!other.wait().success());
    let rows = files.serve(&["--simulate"]).ledger();
    assert_eq!((&rows[0]["attempt"], &rows[1]["attempt"], rows.len()), (&json!(1), &json!(2), 2));
    assert!(rows[0]["fence"].as_u64() < rows[1]["fence"].as_u64());
}

#[test]
fn after_a_crash_nobody_runs_again_where_taking_over_is_refused() {
    let files = Files::new();
    let abort = r#"{"name": "orders", "simulate": {"outcome": "abort"}}"#;
    let mut crashing = files.serve(&["--simulate", "--lease", "1s"]);
    assert_eq!(crashing.create(Some("a"), abort).status, 0);
    crashing.wait();
    let careful = files.serve(&["--simulate", "--expired-lease", "refuse"]);
    let answer = loop {
        let answer = careful.create(Some("a"), abort).json()["code"].clone();
        if answer != "idempotency_key_in_progress" {
            break answer;
        }
    };
    assert_eq!(answer, "idempotency_outcome_unknown");
    assert_eq!(careful.ledger().len(), 1);
}
