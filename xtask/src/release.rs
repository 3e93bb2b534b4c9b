//! `cargo xtask release`: whether the crates can be published as they are.
//!
//! It checks the licences and sources of all dependencies, compares the API with the last release, tests the packages as a
//! user receives them, and compiles each crate with the lowest Rust version that it promises.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{C_COMPILER, NEXTEST, Need, Source, apt, ensure};
use crate::metadata::{Metadata, Package};
use crate::step::{Failure, Result, capture, cargo, run, step, succeeds};
use crate::{msrv, packages, report, servers};

const DENY: Need =
    Need { name: "cargo-deny", probe: "cargo deny --version", source: Source::Crate("cargo-deny") };

const SEMVER_CHECKS: Need = Need {
    name: "cargo-semver-checks",
    probe: "cargo semver-checks --version",
    source: Source::Crate("cargo-semver-checks"),
};

/// Runs every check, and writes what was found and what could not be checked.
pub(crate) fn check(workspace: &Metadata) -> Result {
    step("what the checks need", || {
        ensure(&[C_COMPILER, NEXTEST, DENY])?;
        servers::ensure_servers(workspace)
    })?;
    step("manifests", || packages::check(workspace).and_then(|()| msrv::check(workspace)))?;
    let dependencies = step("dependencies", dependencies)?;
    let changes = step("changes of the API", || changes_of_api(workspace))?;
    let unpacked = step("packages, unpacked", || Unpacked::new(workspace))?;
    let tests = step("tests of the packages", || unpacked.test(workspace))?;
    let versions = step("lowest Rust versions", || unpacked.check_lowest_versions(workspace))?;
    let body = format!("{dependencies}\n\n{changes}\n\n{tests}\n\n{versions}");
    report::write(workspace, "release", "The release, checked", "cargo xtask release", &body)
}

fn dependencies() -> Result<String> {
    run(&mut cargo("deny check licenses bans sources".split(' ')))?;
    if !succeeds(&mut cargo(["deny", "fetch"])) {
        return Ok("`cargo deny` accepts all licences, crates and sources. Advisories were not checked: their database \
                   could not be fetched."
            .to_owned());
    }
    run(&mut cargo("deny check advisories".split(' ')))?;
    Ok("`cargo deny` accepts all licences, crates, sources and advisories.".to_owned())
}

/// Compares with the last release, which has a tag.
fn changes_of_api(workspace: &Metadata) -> Result<String> {
    let mut describe = Command::new("git");
    describe.current_dir(&workspace.workspace_root).args("describe --tags --abbrev=0 --match v*".split(' '));
    let last = capture(&mut describe)?;
    if !last.status.success() {
        return Ok("`cargo semver-checks` has nothing to compare with: no release has a tag yet.".to_owned());
    }
    ensure(&[SEMVER_CHECKS])?;
    let last = String::from_utf8_lossy(&last.stdout).trim().to_owned();
    run(&mut cargo(["semver-checks", "--workspace", "--all-features", "--baseline-rev", &last]))?;
    Ok(format!(
        "`cargo semver-checks` finds no breaking change since {last} that the versions do not announce."
    ))
}

/// The packages in a workspace of their own, where each finds the others as it would on crates.io.
struct Unpacked {
    directory: PathBuf,
}

impl Unpacked {
    fn new(workspace: &Metadata) -> Result<Self> {
        let directory = workspace.target_directory.join("release-check");
        let packed = workspace.target_directory.join("package");
        let mut package = cargo(["package", "--locked", "--no-verify"]);
        package.args(workspace.published().flat_map(|it| ["--package", &it.name]));
        run(&mut package)?;

        let (mut members, mut patches) = (String::new(), String::new());
        clear(&directory)?;
        for Package { name, version, .. } in workspace.published() {
            let archive = packed.join(format!("{name}-{version}.crate"));
            run(Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(&directory))?;
            // Writing into a string cannot fail.
            let _ = write!(members, "\"{name}-{version}\", ");
            let _ = writeln!(patches, "{name} = {{ path = \"{name}-{version}\" }}");
        }
        let manifest =
            format!("[workspace]\nresolver = \"3\"\nmembers = [{members}]\n\n[patch.crates-io]\n{patches}");
        fs::write(directory.join("Cargo.toml"), manifest)
            .and_then(|()| {
                fs::copy(workspace.workspace_root.join("Cargo.lock"), directory.join("Cargo.lock")).map(drop)
            })
            .map_err(|error| unusable(&directory, &error))?;
        Ok(Self { directory })
    }

    /// Runs the unit tests and the documentation examples of every package.
    fn test(&self, workspace: &Metadata) -> Result<String> {
        for arguments in
            ["test --doc --workspace --all-features", "nextest run --lib --workspace --all-features"]
        {
            run(self.in_here(&mut cargo(arguments.split(' '))))?;
        }
        let names: Vec<_> = workspace.published().map(|it| format!("{} {}", it.name, it.version)).collect();
        Ok(format!("Packed, unpacked, unit tests and documentation examples passed: {}.", names.join(", ")))
    }

    /// Compiles each package, and each feature that needs a later version, as a user of that version would.
    fn check_lowest_versions(&self, workspace: &Metadata) -> Result<String> {
        // The versions of dependencies that this Rust can build are chosen again.
        let lock = self.directory.join("Cargo.lock");
        fs::remove_file(&lock).map_err(|error| unusable(&lock, &error))?;
        let mut table = String::from("| package | features | Rust | |\n|---|---|---|---|\n");
        for package in workspace.published() {
            let later = package.rust_version_of_features();
            let is_later = |feature: &&str| later.iter().any(|(name, _)| name == feature);
            let others: Vec<_> = package.features().into_iter().filter(|it| !is_later(it)).collect();
            let version = package.rust_version.as_deref().unwrap_or_default();
            let alone = later.iter().map(|(feature, version)| (*version, (*feature).to_owned()));
            for (version, features) in [(version, others.join(","))].into_iter().chain(alone) {
                let result = match toolchain(version) {
                    None => "not compiled: this version is not installed",
                    Some(mut check) => {
                        check.args(["check", "--quiet", "--lib", "--package", &package.name]);
                        check.args(["--features", &features]);
                        check.env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
                        run(self.in_here(&mut check))?;
                        "compiles"
                    }
                };
                let name = &package.name;
                let _ = writeln!(table, "| {name} | {features} | {version} | {result} |");
            }
        }
        eprintln!("\n{table}");
        Ok(table)
    }

    fn in_here<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.directory).env("CARGO_TARGET_DIR", self.directory.join("target"))
    }
}

/// The cargo of this Rust version: rustup's, or Debian's, which is installed if it may be the one.
fn toolchain(version: &str) -> Option<Command> {
    let mut rustup = Command::new("rustup");
    if succeeds(Command::new("rustup").args(["run", version, "rustc", "--version"])) {
        rustup.args(["run", version, "cargo"]);
        return Some(rustup);
    }
    let is_debians = || {
        let found = capture(Command::new("/usr/bin/rustc").arg("--version")).ok()?;
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        found
            .strip_prefix(&format!("rustc {version}."))?
            .starts_with(|c: char| c.is_ascii_digit())
            .then_some(())
    };
    if !Path::new("/usr/bin/rustc").exists() {
        // What cannot be installed is reported as missing.
        let _ = apt(&["rustc-web", "cargo-web"]);
    }
    is_debians()?;
    let mut debians = Command::new("/usr/bin/cargo");
    debians.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc");
    Some(debians)
}

fn clear(directory: &Path) -> Result {
    let removed = if directory.exists() { fs::remove_dir_all(directory) } else { Ok(()) };
    removed.and_then(|()| fs::create_dir_all(directory)).map_err(|error| unusable(directory, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Because(format!("{} could not be used: {error}", path.display()))
}
