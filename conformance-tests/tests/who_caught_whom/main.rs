//! Shows that the suite bites: runs it over stores with one bug each, and writes down who caught whom.
//!
//! `WHO_CAUGHT_WHOM.md` is generated. `IDEM_BLESS=1 cargo test -p idem-conformance --test who_caught_whom` writes it
//! anew after a case or a bug was added.

mod broken;
mod bugs;
mod intercept;
mod loose;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{env, fs, thread};

use idem_conformance::{Case, Harness, Verdict, cases, check};

use crate::broken::Broken;

/// The cases that caught each broken store, in the order of the suite.
type Caught = BTreeMap<&'static str, Vec<String>>;

#[test]
fn every_broken_store_is_caught_by_the_cases_it_was_broken_for() {
    let bugs = bugs::all();
    let known: Vec<_> = cases().map(|case| case.name()).collect();
    for bug in &bugs {
        assert!(!bug.caught_by.is_empty(), "nothing says who has to catch a store that {}", bug.name);
        for name in bug.caught_by {
            assert!(known.iter().any(|known| known == name), "there is no case {name}");
        }
    }

    let caught = run(&bugs);
    let mut missed = String::new();
    for (bug, name) in bugs.iter().flat_map(|bug| bug.caught_by.iter().map(move |name| (bug, name))) {
        if !caught[bug.name].iter().any(|by| by == name) {
            let _ = writeln!(missed, "a store that {} went past {name}", bug.name);
        }
    }
    assert!(missed.is_empty(), "{missed}");

    let table = table::render(&bugs, &caught);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/WHO_CAUGHT_WHOM.md");
    if env::var_os("IDEM_BLESS").is_some() {
        fs::write(path, &table).expect("the table can be written");
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(committed == table, "WHO_CAUGHT_WHOM.md is not what this run found; bless it with IDEM_BLESS=1");
}

/// Runs the suite over every broken store, on as many threads as there are processors.
fn run(bugs: &[Broken]) -> Caught {
    let (next, caught) = (AtomicUsize::new(0), Mutex::new(Caught::new()));
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let by = catchers(bug);
                    caught.lock().expect("no worker panics while it holds this").insert(bug.name, by);
                }
            });
        }
    });
    caught.into_inner().expect("every worker has ended")
}

fn catchers(bug: &Broken) -> Vec<String> {
    let harness: Arc<dyn Harness> = Arc::new(*bug);
    let is_tried = |case: &Case| !case.is_concurrent() || bug.caught_by.contains(&&*case.name());
    let tried = cases().filter(is_tried);
    let catching = tried.filter(|case| matches!(check(&harness, case), Verdict::Failed(_)));
    catching.map(|case| case.name()).collect()
}
