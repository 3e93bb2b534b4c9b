//! Whether the tracked files would mean the same on any other machine.
//!
//! The host name of a mirror in a lock file, or the path of a checkout in a committed result, works on one machine only.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::metadata::Metadata;
use crate::step::{Result, fail, read};

/// Hosts that package managers fetch from. They belong in a user's configuration, not in a repository.
///
/// Each is written in two parts, so that this file does not name it.
const REGISTRIES: [&str; 8] = [
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("pypi", ".org"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
    concat!("archive.", "ubuntu.com"),
    concat!("arti", "factory"),
];

/// Where home directories and build agents keep their checkouts.
const BUILD_PATHS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "Users/"), concat!("/", "root/"), concat!("C:\\", "Users\\")];

/// The one registry that a locked dependency may come from.
const LOCKED_SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Looks through every file that is tracked, or would be with the next `git add`.
///
/// That `Cargo.lock` is as cargo writes it was checked when [`Metadata::read`] ran with `--locked`.
pub(crate) fn check(workspace: &Metadata) -> Result {
    let root = &workspace.workspace_root;
    let names = read(
        Command::new("git")
            .current_dir(root)
            .args("ls-files -z --cached --others --exclude-standard".split(' ')),
    )?;
    let names: Vec<_> = names.split_terminator('\0').collect();

    let own_paths = own_paths(root);
    let mut found = Vec::new();
    for name in &names {
        // A file that was deleted and not yet committed is still listed.
        let Ok(bytes) = fs::read(root.join(name)) else { continue };
        for (number, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if let Some(what) = problem(name, line, &own_paths) {
                found.push(format!("{name}:{}: {what}", number + 1));
            }
        }
    }
    if found.is_empty() {
        eprintln!("    {} files name no registry host and no path of a build machine", names.len());
        return Ok(());
    }
    fail(found.join("\n       "))
}

/// The paths of this machine: the checkout, and those that the environment names.
///
/// A path of one component (`/src`, `/app`) is left out: it is common in other text and names no machine.
fn own_paths(root: &Path) -> Vec<String> {
    let variables = ["HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"].map(env::var_os);
    let mut paths: Vec<_> = variables.into_iter().flatten().map(Into::into).collect();
    paths.push(root.to_path_buf());
    let is_specific = |path: &std::path::PathBuf| path.is_absolute() && path.components().count() > 2;
    paths.into_iter().filter(is_specific).map(|path| path.display().to_string()).collect()
}

/// What is wrong with one line of a file, if anything is.
fn problem(name: &str, line: &str, own_paths: &[String]) -> Option<String> {
    if let Some(host) = REGISTRIES.iter().find(|host| line.contains(**host)) {
        return Some(format!("names the package registry host {host}"));
    }
    if name.ends_with("Cargo.lock") && line.starts_with("source = ") && !line.contains(LOCKED_SOURCE) {
        return Some(format!("locks a dependency from elsewhere than crates.io: {line}"));
    }
    let paths = BUILD_PATHS.into_iter().chain(own_paths.iter().map(String::as_str));
    paths.into_iter().find(|path| has_path(line, path)).map(|path| format!("has the absolute path {path}"))
}

/// Whether the line has this path from its root on, and not as the end of a longer path.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '$' | '}');
        // Anything may follow a path that ends in a separator. Another path must end here, or go on with a separator.
        let ends = path.ends_with(['/', '\\']) || !after.is_some_and(inside);
        !before.is_some_and(inside) && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_hosts_are_found_and_the_canonical_source_is_not_one() {
        let mirror = format!("source = \"sparse+https://{}/index\"", REGISTRIES[7]);
        assert!(problem("Cargo.lock", &mirror, &[]).is_some());
        assert!(problem("Cargo.lock", "source = \"git+https://example.org/fork\"", &[]).is_some());
        let canonical = format!("source = \"{LOCKED_SOURCE}\"");
        assert_eq!(problem("Cargo.lock", &canonical, &[]), None);
        assert_eq!(problem("README.md", "https://crates.io/crates/idem-core", &[]), None);
    }

    #[test]
    fn absolute_paths_are_found_from_their_root_only() {
        let of_builder = format!("at {}me/idem/src/lib.rs:1", BUILD_PATHS[0]);
        assert!(problem("results/a.md", &of_builder, &[]).is_some());
        assert_eq!(problem("a.rs", "https://example.org/home/page", &[]), None);
        assert_eq!(problem("a.sh", "\"$prefix/root/\"", &[]), None);

        let own = ["/mnt/idem".to_owned()];
        assert!(problem("a.md", "in `/mnt/idem`", &own).is_some());
        assert!(problem("a.md", "/mnt/idem/target", &own).is_some());
        assert_eq!(problem("a.md", "/mnt/idempotency", &own), None);
    }
}
