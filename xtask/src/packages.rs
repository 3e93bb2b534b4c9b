//! Whether each published package has what a registry shows and what its licences ask for.

use crate::metadata::Metadata;
use crate::step::{Result, cargo, fail, read};

/// What a manifest must say.
const FIELDS: [&str; 7] =
    ["description", "license", "repository", "documentation", "readme", "keywords", "categories"];

/// What a package must hold.
const FILES: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];

/// Looks at the manifests and at the lists of packed files; nothing is built.
pub(crate) fn check(workspace: &Metadata) -> Result {
    let mut wrong = Vec::new();
    for package in workspace.published() {
        let name = &package.name;
        wrong.extend(package.lacks(&FIELDS).into_iter().map(|field| format!("{name} has no {field}")));
        if !package.flags_on_docs_rs().contains(&"docsrs") {
            wrong.push(format!("the documentation of {name} does not show which feature an item needs"));
        }
        let packed = read(&mut cargo(["package", "--list", "--allow-dirty", "--package", name]))?;
        let is_missing = |file: &&&str| !packed.lines().any(|line| line == **file);
        wrong.extend(FILES.iter().filter(is_missing).map(|file| format!("{name} is packed without {file}")));
    }
    if wrong.is_empty() {
        eprintln!("    {} packages are complete", workspace.published().count());
        return Ok(());
    }
    fail(wrong.join("\n       "))
}
