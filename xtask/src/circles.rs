//! Whether the modules of each crate depend on each other in one direction only.
//!
//! A file depends on another if it names something that the other defines. Modules that depend on each other in a circle
//! can only be understood, tested and changed together. A name that a parent passes on by `use` counts for the file that
//! defines it, and passing on is no dependency of the parent. Tests do not count. What no path shows is not seen: a method
//! that is called on a value, and what a macro makes.

mod lexer;
mod names;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::metadata::Metadata;
use crate::step::{Result, fail};
use names::{Target, imported, resolve};
use tree::Tree;

/// Fails if any crate of the workspace has a circle, and lists the files of each with the lines that make it.
pub(crate) fn check(workspace: &Metadata) -> Result {
    let mut files = 0;
    let mut found = Vec::new();
    for package in workspace.members() {
        for root in package.sources() {
            let tree = tree::read(&root, |file| fs::read_to_string(file).ok())?;
            files += tree.values().map(|module| &module.file).collect::<BTreeSet<_>>().len();
            found.extend(circles(&tree).iter().map(|circle| circle.shown(&workspace.workspace_root)));
        }
    }
    if found.is_empty() {
        eprintln!("    {files} files, no import circles");
        return Ok(());
    }
    let count = found.len();
    fail(format!("{count} import circles\n{}", found.join("\n\n")))
}

/// Why one file depends on another: the path that one of its lines names.
type Reasons = BTreeMap<(PathBuf, PathBuf), BTreeSet<(usize, String)>>;

/// Files that depend on each other, directly or through others, with all dependencies between them.
struct Circle(Reasons);

impl Circle {
    fn shown(&self, root: &Path) -> String {
        let name = |file: &Path| file.strip_prefix(root).unwrap_or(file).display().to_string();
        let files: BTreeSet<_> = self.0.keys().map(|(from, _)| name(from)).collect();
        let mut shown =
            format!("  {} files: {}", files.len(), files.into_iter().collect::<Vec<_>>().join(", "));
        for ((from, to), reasons) in &self.0 {
            for (line, path) in reasons {
                // Writing into a string cannot fail.
                let _ = write!(shown, "\n    {}:{line}: {path} is in {}", name(from), name(to));
            }
        }
        shown
    }
}

/// Every circle of a crate.
fn circles(tree: &Tree) -> Vec<Circle> {
    let reasons = dependencies(tree);
    let files: BTreeSet<_> = reasons.keys().map(|(from, _)| from).collect();
    let reached: BTreeMap<_, _> = files.iter().map(|file| (*file, reachable(file, &reasons))).collect();
    let are_mutual = |a: &PathBuf, b: &PathBuf| {
        reached.get(a).is_some_and(|it| it.contains(b)) && reached.get(b).is_some_and(|it| it.contains(a))
    };
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let within = |(from, to): &(PathBuf, PathBuf)| are_mutual(file, from) && are_mutual(file, to);
        let inside: Reasons = reasons
            .iter()
            .filter(|(edge, _)| within(edge))
            .map(|(edge, it)| (edge.clone(), it.clone()))
            .collect();
        if !inside.is_empty() && seen.insert(inside.keys().cloned().collect::<Vec<_>>()) {
            circles.push(Circle(inside));
        }
    }
    circles
}

/// The files that this one depends on, directly or through others.
fn reachable<'a>(file: &'a PathBuf, reasons: &'a Reasons) -> BTreeSet<&'a PathBuf> {
    let mut found = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        let direct = reasons.keys().filter(|(from, _)| from == file).map(|(_, to)| to);
        next.extend(direct.filter(|to| found.insert(*to)));
    }
    found
}

/// Which file depends on which, and why.
fn dependencies(tree: &Tree) -> Reasons {
    let mut reasons = Reasons::new();
    for (name, module) in tree {
        let mut note = |path: &[String], line: usize| {
            let Some(Target::Item(definer)) = resolve(tree, name, path) else { return };
            let file = &tree[&definer].file;
            if *file != module.file {
                let edge = (module.file.clone(), file.clone());
                reasons.entry(edge).or_default().insert((line, path.join("::")));
            }
        };
        for (path, line) in &module.paths {
            note(path, *line);
        }
        for import in &module.imports {
            for path in imported(tree, name, import) {
                note(&path, import.line);
            }
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is printed of each circle of a made-up crate.
    fn shown(files: &[(&str, &str)]) -> Vec<String> {
        let source = |file: &Path| {
            let text = files.iter().find(|(name, _)| Path::new(name) == file);
            text.map(|(_, text)| (*text).to_owned())
        };
        let tree = tree::read(Path::new("lib.rs"), source).unwrap();
        circles(&tree).iter().map(|circle| circle.shown(Path::new(""))).collect()
    }

    /// The files of each circle.
    fn found(sources: &[(&str, &str)]) -> Vec<String> {
        let files =
            |shown: &String| shown.lines().next()?.split_once(": ").map(|(_, files)| files.to_owned());
        shown(sources).iter().filter_map(files).collect()
    }

    #[test]
    fn two_files_that_import_each_other_are_a_circle() {
        let tree = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(super::a::A);"),
            ("c.rs", "use crate::{a::A, b};\nfn c(_: b::B) {}"),
        ];
        assert_eq!(found(&tree), ["a.rs, b.rs"]);
    }

    #[test]
    fn a_circle_through_a_third_file_names_all_three_and_the_lines() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "\n\nuse crate::b::B as Other; pub struct A;"),
            ("b.rs", "use crate::c; pub struct B; fn b() { c::c() }"),
            ("c.rs", "pub fn c() -> crate::a::A { todo() }"),
        ];
        assert_eq!(found(&files), ["a.rs, b.rs, c.rs"]);
        let shown = shown(&files).concat();
        assert!(shown.contains("a.rs:3: crate::b::B is in b.rs"), "{shown}");
        assert!(shown.contains("b.rs:1: c::c is in c.rs"), "{shown}");
    }

    #[test]
    fn a_name_that_a_parent_passes_on_counts_for_the_file_that_defines_it() {
        let passed_on = [
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a/mod.rs", "mod inner; mod user; pub use inner::A;"),
            ("a/inner.rs", "pub struct A;"),
            ("a/user.rs", "use super::A; use crate::B;"),
            ("b.rs", "use crate::A; pub struct B;"),
        ];
        assert_eq!(found(&passed_on), [""; 0]);
        let [root, parent, _, user, b] = passed_on;
        let circle = [root, parent, ("a/inner.rs", "use crate::B; pub struct A;"), user, b];
        assert_eq!(found(&circle), ["a/inner.rs, b.rs"]);
    }

    #[test]
    fn a_parent_with_code_of_its_own_that_its_children_use_is_in_the_circle() {
        let children = [("a/b.rs", "pub struct B; fn b() { super::help() }")];
        let parent = |code| [("lib.rs", "mod a;"), ("a/mod.rs", code), children[0]];
        assert_eq!(found(&parent("mod b; pub use b::B; pub fn help() {}")), [""; 0]);
        assert_eq!(found(&parent("mod b; pub use b::B; pub fn help() { B; }")), ["a/b.rs, a/mod.rs"]);
        assert_eq!(found(&parent("mod b; use b::B; pub fn help() {}")), ["a/b.rs, a/mod.rs"]);
        assert_eq!(found(&parent("mod b; pub fn help() { b::b() }")), ["a/b.rs, a/mod.rs"]);
    }

    #[test]
    fn a_glob_stands_for_the_names_that_are_used() {
        let with =
            |code| [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::*; pub struct A;"), ("b.rs", code)];
        assert_eq!(found(&with("use crate::a::A; pub struct B;")), [""; 0]);
        assert_eq!(found(&with("use crate::a::A; pub struct A;")), ["a.rs, b.rs"]);
    }

    #[test]
    fn tests_comments_and_other_crates_do_not_count() {
        let tree = [
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
            (
                "a.rs",
                "use std::b::B; use b::B;\n//! [`crate::b::B`]\n#[cfg(test)] use crate::b::B;\npub struct A { \
                 #[cfg(test)] seen: crate::b::B }\n#[cfg(all(test, not(shuttle)))]\n#[allow(dead_code)]\nmod tests { \
                 use crate::b::B; fn a() { \"}\" } }",
            ),
            ("b.rs", "use crate::a::A; pub struct B;"),
        ];
        assert_eq!(found(&tree), [""; 0]);
        let [root, (file, code), b] = tree;
        let counted = code.replace("cfg(test)", "cfg(not(test))");
        assert_eq!(found(&[root, (file, &counted), b]), ["a.rs, b.rs"]);
    }

    #[test]
    fn modules_inside_of_a_file_belong_to_it() {
        let tree = [
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "mod inner { pub use super::super::b::B; pub struct A; } use inner::A; pub use self::inner::B;",
            ),
            ("b.rs", "use crate::a::inner::A; pub struct B;"),
        ];
        assert_eq!(found(&tree), ["a.rs, b.rs"]);
    }
}
