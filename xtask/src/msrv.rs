//! Whether each crate's `rust-version` is true: at least that of everything it is built on.
//!
//! A crate that promises a Rust that one of its dependencies no longer builds with breaks its users at their next
//! `cargo update`, and nothing in an ordinary build notices.

use std::collections::{HashMap, HashSet};

use crate::metadata::{Dependency, Metadata, Package};
use crate::step::{Result, fail};

/// Compares every member's `rust-version` with those of its normal and build dependencies, theirs included.
///
/// Development dependencies do not count: they are never built for a user.
pub(crate) fn check(workspace: &Metadata) -> Result {
    let packages: HashMap<_, _> = workspace.packages.iter().map(|package| (&*package.id, package)).collect();
    let graph: HashMap<_, _> = workspace.resolve.nodes.iter().map(|node| (&*node.id, &*node.deps)).collect();

    let mut wrong = Vec::new();
    for member in workspace.members() {
        let Some(promised) = &member.rust_version else {
            wrong.push(format!("{} has no rust-version", member.name));
            continue;
        };
        let needs = |package: &&Package| (parsed(package.rust_version.as_deref()), package.name.clone());
        let dependencies = reachable(&member.id, &graph);
        let dependencies = dependencies.iter().filter_map(|id| packages.get(id).copied());
        let Some((highest, Some(needed))) =
            dependencies.max_by_key(needs).map(|package| (package, package.rust_version.as_deref()))
        else {
            continue;
        };
        let name = &member.name;
        if parsed(Some(needed)) > parsed(Some(promised)) {
            let (by, version) = (&highest.name, &highest.version);
            wrong.push(format!(
                "{name} promises Rust {promised}, but its dependency {by} {version} needs {needed}"
            ));
        } else {
            eprintln!("    {name:18} {promised:5} (its dependencies need {needed})");
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n       ")) }
}

/// The packages that building `root` for a user can compile, without itself.
fn reachable<'a>(root: &'a str, graph: &HashMap<&'a str, &'a [Dependency]>) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        for dependency in graph.get(id).copied().unwrap_or_default().iter().filter(|it| reaches_users(it)) {
            if found.insert(&*dependency.pkg) {
                next.push(&dependency.pkg);
            }
        }
    }
    found
}

/// Whether it is compiled for users: not for tests only, and not for the model checker only.
fn reaches_users(dependency: &Dependency) -> bool {
    dependency
        .dep_kinds
        .iter()
        .any(|it| it.kind.as_deref() != Some("dev") && it.target.as_deref() != Some("cfg(shuttle)"))
}

/// `1.85` and `1.85.0` are one version; none at all is the oldest.
fn parsed(version: Option<&str>) -> Vec<u32> {
    let mut numbers: Vec<_> = version.unwrap_or("").split('.').filter_map(|part| part.parse().ok()).collect();
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parsed(Some("1.85")), parsed(Some("1.85.0")));
        assert!(parsed(Some("1.9")) < parsed(Some("1.85")));
        assert!(parsed(Some("1.85.1")) > parsed(Some("1.85")));
        assert!(parsed(None) < parsed(Some("1.0")));
    }
}
