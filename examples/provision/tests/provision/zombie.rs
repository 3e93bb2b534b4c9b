//! An owner that is stopped for longer than its lease, and wakes up after another process has finished its request.

use std::thread;
use std::time::Duration;

use serde_json::json;
use test_servers::redis::Server;

use crate::servers::Postgres;
use crate::support::{Files, Process};

const LEASE: [&str; 3] = ["--simulate", "--lease", "1s"];

/// The owner stands still in its handler; it has written nothing yet.
const SLOW: &str = r#"{"name": "orders", "simulate": {"delay_ms": 4000}}"#;

/// One story for each key until one comes to its end: only a file can be held by a stopped process.
const ON_SERVER: &[&str] = &["a"];
const ON_FILE: &[&str] = &["a", "b", "c"];

/// Runs the story on two processes of one store, and gives the attempts of the ledger's rows in their order.
fn zombie_of(owner: &Process, other: &Process, keys: &[&str]) -> Vec<serde_json::Value> {
    let key = keys.iter().find(|key| is_overtaken(owner, other, key)).expect("it is overtaken");
    let ledger = other.ledger();
    ledger.iter().filter(|row| row["key"] == *key).map(|row| row["attempt"].clone()).collect()
}

/// False: it was stopped while it wrote into the file of a SQLite store, which nobody else can write into then.
///
/// The stopped process sleeps for as many leases as its handler waits: were it only late, and not a zombie, its row
/// would be the first.
fn is_overtaken(owner: &Process, other: &Process, key: &str) -> bool {
    let first = owner.create_until_in_flight(key, SLOW);
    // Only an owner that knows of its reservation renews it. One that is stopped before that has no run: when it wakes up,
    // it asks again, and is given the other's answer.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(other.create(Some(key), SLOW).status, 409, "its lease is renewed");
    owner.pause();
    // Refused for as long as the lease of the stopped one runs; then this request runs itself.
    let second = loop {
        match other.create(Some(key), SLOW) {
            answer if answer.status == 409 => thread::yield_now(),
            answer => break answer,
        }
    };
    if second.status == 503 {
        owner.resume();
        first.join().unwrap();
        return false;
    }
    assert_eq!((second.status, second.is_replay, &second.json()["attempt"]), (201, false, &json!(2)));
    owner.resume();

    // The zombie ends its run, and its client gets the accepted answer.
    let first = first.join().unwrap();
    assert_eq!((first.status, first.is_replay, &first.body), (201, true, &second.body));
    for process in [owner, other] {
        let replay = process.create(Some(key), SLOW);
        assert_eq!((replay.status, replay.is_replay, &replay.body), (201, true, &second.body));
    }
    true
}

#[test]
fn a_zombie_on_sqlite_changes_nothing_and_every_caller_gets_the_second_attempts_answer() {
    let files = Files::new();
    let (owner, other) = (files.serve(&LEASE), files.serve(&LEASE));
    // Its effect is outside of the store, so that only a fence could have kept it out.
    assert_eq!(zombie_of(&owner, &other, ON_FILE), [2, 1]);
}

#[test]
fn a_zombie_on_redis_changes_nothing_and_every_caller_gets_the_second_attempts_answer() {
    let redis = Server::redis();
    let files = Files::with_store(redis.socket_url());
    let (owner, other) = (files.serve(&LEASE), files.serve(&LEASE));
    assert_eq!(zombie_of(&owner, &other, ON_SERVER), [2, 1]);
}

#[test]
fn a_zombie_on_postgres_changes_nothing_and_every_caller_gets_the_second_attempts_answer() {
    let postgres = Postgres::start();
    let files = Files::with_store(postgres.url());
    let (owner, other) = (files.serve(&LEASE), files.serve(&LEASE));
    assert_eq!(zombie_of(&owner, &other, ON_SERVER), [2, 1]);
}

#[test]
fn a_zombie_on_postgres_has_no_effect_where_effects_are_transactional() {
    let postgres = Postgres::start();
    let files = Files::with_store(postgres.url());
    let settings = [&LEASE[..], &["--transactional"]].concat();
    let (owner, other) = (files.serve(&settings), files.serve(&settings));
    assert_eq!(zombie_of(&owner, &other, ON_SERVER), [2]);
}

#[test]
fn a_zombie_on_sqlite_has_no_effect_where_effects_are_transactional() {
    let files = Files::new();
    let settings = [&LEASE[..], &["--transactional"]].concat();
    let (owner, other) = (files.serve(&settings), files.serve(&settings));
    assert_eq!(zombie_of(&owner, &other, ON_FILE), [2]);
}
