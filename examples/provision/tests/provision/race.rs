//! The race, as it is run by hand.

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
    race(&["--store", &Files::new().store()]);
}
