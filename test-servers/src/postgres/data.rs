//! Data directories: new ones, and copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::programs::{as_its_user, hand_over, program};

/// A directory with the new data of [`template`].
pub(super) fn from_template() -> TempDir {
    copy_of(&template())
}

/// A directory with a copy of a server's data.
pub(super) fn copy_of(data: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    copy(data, &directory.path().join("data"));
    let _ = fs::remove_file(directory.path().join("data/postmaster.pid"));
    directory
}

/// Runs `initdb` for `data` in this directory.
pub(super) fn init(directory: &Path, arguments: &[&str]) {
    hand_over(directory);
    let mut initdb = as_its_user(&program("initdb"));
    initdb.args(["--username=idem", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]);
    initdb.args(arguments).arg("-D").arg(directory.join("data"));
    let made = initdb.current_dir(directory).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The data of a new server, made once for each version: a copy takes a fraction of a second.
fn template() -> PathBuf {
    let cache = crate::build_directory();
    let version = Command::new(program("postgres")).arg("--version").output().unwrap();
    // `postgres (PostgreSQL) 15.18 (Debian ..)`.
    let version = String::from_utf8_lossy(&version.stdout).split(' ').nth(2).unwrap().trim().to_owned();
    let template = cache.join(format!("postgres-template-{version}"));
    // Many tests start at the same time, each in a process of its own.
    let lock = fs::File::create(cache.join("postgres-template.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !template.exists() {
        // The server's user may not have access to the build directory.
        let made = tempfile::tempdir().unwrap();
        init(made.path(), &["--no-sync", "--wal-segsize=1"]);
        let unfinished = cache.join("postgres-template-unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        copy(&made.path().join("data"), &unfinished);
        fs::rename(unfinished, &template).unwrap();
    }
    template
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}
