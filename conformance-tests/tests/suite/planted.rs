//! Runs cases over stores with one bug each. A case that lets its bug pass is too weak.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{env, fs, thread};

use idem_conformance::{Case, Harness, Verdict, cases, check};

use crate::broken::Broken;
use crate::bugs;
use crate::coverage::{ALSO_CAUGHT, CATCH_NONE};

#[test]
fn every_planted_bug_is_caught_by_the_cases_that_it_was_planted_for() {
    let bugs = bugs::all();
    let pairs: Vec<(&Broken, Case)> =
        bugs.iter().flat_map(|bug| catchers(bug).into_iter().map(move |name| (bug, case(name)))).collect();
    let missed: BTreeSet<_> = ending(&pairs, false).into_iter().collect();
    let missed: Vec<_> =
        missed.into_iter().map(|(bug, case)| format!("a store that {bug} passed {case}")).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn every_case_catches_a_planted_bug_or_there_is_a_reason() {
    let bugs = bugs::all();
    let catching: BTreeSet<_> = bugs.iter().flat_map(catchers).collect();
    for case in cases().map(|case| case.name()) {
        let has_reason = CATCH_NONE.iter().any(|(prefix, _)| case.starts_with(prefix));
        let catches = catching.contains(&*case);
        assert!(
            catches != has_reason,
            "{case}: catches a bug: {catches}; has a reason for none: {has_reason}"
        );
    }
    for bug in &bugs {
        assert!(!bug.caught_by.is_empty(), "no case has to catch a store that {}", bug.name);
    }
    for (case, bug) in ALSO_CAUGHT {
        assert!(bugs.iter().any(|known| known.name == *bug), "{case}: no store {bug}");
    }
}

/// Writes all cases that catch each bug into the file that `IDEM_CONFORMANCE_MATRIX` names. It takes minutes.
///
/// Of the concurrent cases only those are tried that have to catch the bug: what the others catch is up to chance.
#[test]
fn all_catches_are_written_to_a_file_on_demand() {
    let Some(path) = env::var_os("IDEM_CONFORMANCE_MATRIX") else { return };
    let bugs = bugs::all();
    let is_tried =
        |bug: &Broken, case: &Case| !case.is_concurrent() || catchers(bug).contains(&&*case.name());
    let pairs: Vec<_> = bugs
        .iter()
        .flat_map(|bug| cases().filter(|case| is_tried(bug, case)).map(move |case| (bug, case)))
        .collect();
    let caught = ending(&pairs, true);
    let mut text = String::new();
    for bug in &bugs {
        let by = caught.iter().filter(|(name, _)| *name == bug.name).map(|(_, case)| &**case);
        writeln!(text, "a store that {}:\n    {}", bug.name, by.collect::<Vec<_>>().join("\n    "))
            .expect("a string can be written to");
    }
    fs::write(path, text).expect("the file can be written");
}

/// The cases that have to catch a bug.
fn catchers(bug: &Broken) -> Vec<&'static str> {
    let also = ALSO_CAUGHT.iter().filter(|(_, name)| *name == bug.name).map(|(case, _)| *case);
    bug.caught_by.iter().copied().chain(also).collect()
}

fn case(name: &str) -> Case {
    cases().find(|case| case.name() == name).unwrap_or_else(|| panic!("there is no case {name}"))
}

/// The pairs whose case fails over the store (or does not), sorted. Runs on as many threads as there are processors.
fn ending(pairs: &[(&Broken, Case)], fails: bool) -> Vec<(&'static str, String)> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((bug, case)) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let harness: Arc<dyn Harness> = Arc::new(**bug);
                    if matches!(check(&harness, case), Verdict::Failed(_)) == fails {
                        found.lock().expect("no thread panics").push((bug.name, case.name()));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no thread panics");
    found.sort();
    found
}
