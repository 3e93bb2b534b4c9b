//! `--transactional`: the row of the ledger and the completion of the request are committed together.

use crate::servers::Postgres;
use crate::support::Files;

/// Every test here is for each store that has transactions.
macro_rules! tests {
    ($($name:ident)*) => {
        mod on_sqlite {
            $(#[test]
            fn $name() {
                super::$name(&super::Files::new());
            })*
        }

        mod on_postgres {
            $(#[test]
            fn $name() {
                let postgres = super::Postgres::start();
                super::$name(&super::Files::with_store(postgres.url()));
            })*
        }
    };
}

tests! {
    only_completed_runs_have_a_row_and_every_answer_is_replayed
    a_body_that_is_refused_is_an_answer_without_a_row
    a_crash_inside_of_the_transaction_leaves_no_row
    of_two_processes_one_commits_and_the_other_one_answers_with_it
}

fn simulate(outcome: &str) -> String {
    format!(r#"{{"name": "orders", "simulate": {{"outcome": "{outcome}"}}}}"#)
}

fn only_completed_runs_have_a_row_and_every_answer_is_replayed(files: &Files) {
    let service = files.serve(&["--simulate", "--transactional"]);
    let ask = |outcome: &str| service.create(Some(outcome), &simulate(outcome));
    for (outcome, status) in [("error", 500), ("panic", 500), ("conflict", 409)] {
        assert_eq!((ask(outcome).status, ask(outcome).status), (status, status), "{outcome}");
        assert_eq!(service.ledger().len(), 0, "{outcome}");
    }
    for (outcome, status) in [("ok", 201), ("reject", 400)] {
        let (first, replay) = (ask(outcome), ask(outcome));
        assert_eq!((first.status, first.is_replay), (status, false), "{outcome}");
        assert_eq!((replay.status, replay.is_replay, &replay.body), (status, true, &first.body));
    }
    let outcomes: Vec<_> = service.ledger().iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["ok", "reject"]);
}

fn a_body_that_is_refused_is_an_answer_without_a_row(files: &Files) {
    let service = files.serve(&["--simulate", "--transactional"]);
    let (first, replay) = (service.create(Some("a"), "{}"), service.create(Some("a"), "{}"));
    assert_eq!((first.status, first.is_replay, replay.is_replay), (400, false, true));
    assert_eq!((first.body, service.ledger().len()), (replay.body, 0));
}

fn a_crash_inside_of_the_transaction_leaves_no_row(files: &Files) {
    let mut crashing = files.serve(&["--simulate", "--transactional", "--lease", "1s"]);
    assert_eq!(crashing.create(Some("a"), &simulate("abort")).status, 0);
    assert!(!crashing.wait().success());
    let service = files.serve(&["--simulate", "--transactional"]);
    assert_eq!(service.ledger().len(), 0);
}

fn of_two_processes_one_commits_and_the_other_one_answers_with_it(files: &Files) {
    let settings = ["--simulate", "--transactional", "--in-flight", "wait=25s"];
    let (one, other) = (files.serve(&settings), files.serve(&settings));
    let asking = [one.creating("a", &simulate("ok")), other.creating("a", &simulate("ok"))];
    let [left, right] = asking.map(|asking| asking.join().unwrap());
    assert_eq!((left.status, &left.body), (201, &right.body));
    assert!(left.is_replay != right.is_replay);
    assert_eq!(one.ledger().len(), 1);
}
