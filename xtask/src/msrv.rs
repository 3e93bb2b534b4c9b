//! Whether each crate's `rust-version` is at least that of everything it is built on.
//!
//! If a dependency needs a later Rust than the crate promises, the crate breaks its users at their next `cargo update`, and
//! nothing in an ordinary build notices. That the crate's own code compiles with that version is what `release` checks.

use std::collections::{HashMap, HashSet};

use crate::metadata::{Metadata, Package};
use crate::step::{Result, fail};

/// Compares every member's `rust-version` with those of its normal and build dependencies, theirs included.
///
/// Development dependencies do not count, since users never build them. The dependencies of a feature that has a Rust
/// version of its own, in `[package.metadata.rust-version]`, are compared with that one.
pub(crate) fn check(workspace: &Metadata) -> Result {
    let packages: HashMap<_, _> = workspace.packages.iter().map(|package| (&*package.id, package)).collect();
    let dependencies =
        workspace.nodes.iter().map(|node| (&*node.id, node.dependencies.iter().map(|id| &**id).collect()));
    let mut graph: HashMap<&str, Vec<&str>> = dependencies.collect();

    let mut pledged = Vec::new();
    let mut wrong = Vec::new();
    for member in workspace.members() {
        for (feature, promised) in member.rust_version_of_features() {
            let named = member.dependencies_of_feature(feature);
            let is_its_own =
                |id: &&str| packages.get(id).is_some_and(|package| named.contains(&&*package.name));
            let deps = graph.remove(&*member.id).unwrap_or_default();
            let (own, others): (Vec<_>, Vec<_>) = deps.into_iter().partition(is_its_own);
            graph.insert(&member.id, others);
            pledged.push((format!("{} ({feature})", member.name), promised, own));
        }
    }
    for member in workspace.members() {
        match &member.rust_version {
            Some(promised) => {
                let deps = graph.get(&*member.id).cloned().unwrap_or_default();
                pledged.push((member.name.clone(), promised, deps));
            }
            None => wrong.push(format!("{} has no rust-version", member.name)),
        }
    }

    for (name, promised, roots) in pledged {
        let needs = |package: &&Package| (parsed(package.rust_version.as_deref()), package.name.clone());
        let built = reachable(roots, &graph);
        let built = built.iter().filter_map(|id| packages.get(id).copied());
        let Some((highest, Some(needed))) =
            built.max_by_key(needs).map(|package| (package, package.rust_version.as_deref()))
        else {
            continue;
        };
        if parsed(Some(needed)) > parsed(Some(promised)) {
            let (by, version) = (&highest.name, &highest.version);
            wrong.push(format!(
                "{name} promises Rust {promised}, but its dependency {by} {version} needs {needed}"
            ));
        } else {
            eprintln!("    {name:22} {promised:5} (its dependencies need {needed})");
        }
    }
    if wrong.is_empty() { Ok(()) } else { fail(wrong.join("\n       ")) }
}

/// These packages, and everything that can be compiled with them.
fn reachable<'a>(roots: Vec<&'a str>, graph: &HashMap<&'a str, Vec<&'a str>>) -> HashSet<&'a str> {
    let mut found: HashSet<_> = roots.iter().copied().collect();
    let mut next = roots;
    while let Some(id) = next.pop() {
        for &dependency in graph.get(id).into_iter().flatten() {
            if found.insert(dependency) {
                next.push(dependency);
            }
        }
    }
    found
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
