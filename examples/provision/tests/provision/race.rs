//! The race, as it is run by hand.

use test_servers::redis::Server;

use crate::servers::Postgres;
use crate::support::{Files, provision};

fn race(arguments: &[&str]) {
    let output =
        provision().args(["race", "--keys", "5", "--duplicates", "16"]).args(arguments).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    assert!(shown.contains("Right: each of the 5 keys ran once"), "{shown}");
    let row = |name: &str| {
        let line = shown.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line[line.find(name).unwrap() + name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((row("requests"), row("executions"), row("replayed")), ("80".into(), "5".into(), "75".into()));
    assert_eq!((row("wrong keys"), row("wrong answers")), ("0".into(), "0".into()));
}

#[test]
fn each_key_runs_once_on_sqlite_by_default() {
    race(&[]);
}

#[test]
fn each_key_runs_once_in_memory() {
    race(&["--store", "memory:"]);
}

#[test]
fn each_key_runs_once_in_a_file_that_is_named() {
    race(&["--store", Files::new().store()]);
}

#[test]
fn each_key_runs_once_on_redis() {
    race(&["--store", &Server::redis().socket_url()]);
}

/// Sends each of some keys to both processes, several times at the same instant, until all are answered.
fn race_of_two_processes(files: &Files) {
    let both = [files.serve(&["--simulate"]), files.serve(&["--simulate"])];
    for key in ["a", "b", "c", "d", "e"] {
        let asking: Vec<_> = (0..16)
            .map(|number| both[number % 2].asking_until_answered(key, r#"{"name": "orders"}"#))
            .collect();
        let mut answers: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    let keys: Vec<_> = both[0].ledger().iter().map(|row| row["key"].clone()).collect();
    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
}

#[test]
fn each_key_runs_once_in_two_processes_on_one_file() {
    race_of_two_processes(&Files::new());
}

#[test]
fn each_key_runs_once_in_two_processes_on_one_redis() {
    let redis = Server::redis();
    race_of_two_processes(&Files::with_store(redis.socket_url()));
}

#[test]
fn each_key_runs_once_on_postgres() {
    race(&["--store", &Postgres::start().url()]);
}

#[test]
fn each_key_runs_once_in_two_processes_on_one_postgres() {
    let postgres = Postgres::start();
    race_of_two_processes(&Files::with_store(postgres.url()));
}
