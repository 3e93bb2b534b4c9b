//! Whether each published package has what a registry shows and what its licences ask for.

use std::fs;
use std::path::{Component, Path};

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
        for file in packed.lines().filter(|file| Path::new(file).extension().is_some_and(|it| it == "rs")) {
            let code = fs::read_to_string(package.folder().join(file)).unwrap_or_default();
            let outside = included(&code).filter(|included| is_outside(file, included));
            wrong.extend(
                outside.map(|included| format!("{name}: {file} includes {included}, which is not packed")),
            );
        }
    }
    if wrong.is_empty() {
        eprintln!("    {} packages are complete", workspace.published().count());
        return Ok(());
    }
    fail(wrong.join("\n       "))
}

/// The files that a source file includes, relative to its folder.
fn included(code: &str) -> impl Iterator<Item = &str> {
    let marks =
        [concat!("include_str", "!(\""), concat!("include_bytes", "!(\""), concat!("#[path", " = \"")];
    let after = marks.into_iter().flat_map(|mark| code.split(mark).skip(1));
    after.filter_map(|after| after.split('"').next())
}

/// Whether a path that is relative to a file's folder leaves the package. A symbolic link inside of the package does not:
/// cargo packs the file that it leads to.
fn is_outside(file: &str, included: &str) -> bool {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut depth = 0;
    folder.join(included).components().any(|component| {
        depth += if component == Component::ParentDir { -1 } else { 1 };
        depth < 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_repository_that_is_not_in_the_package_is_found() {
        let code = "#[doc = include_str!(\"../README.md\")] struct A; #[path = \"../../b.rs\"] mod b;";
        assert_eq!(included(code).collect::<Vec<_>>(), ["../README.md", "../../b.rs"]);
        assert!(!is_outside("src/lib.rs", "../README.md"));
        assert!(is_outside("src/lib.rs", "../../b.rs"));
        assert!(!is_outside("src/a/b/c.rs", "../../b.rs"));
    }
}
