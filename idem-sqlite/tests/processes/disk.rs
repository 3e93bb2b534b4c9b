//! [`Disk`]: a library between a process and its disk that records what happens, or makes it fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory, and the library that records what happens in it.
pub(crate) struct Disk {
    base: TempDir,
}

impl Disk {
    /// Compiles the library. A C compiler exists, because SQLite was built with one.
    pub(crate) fn new() -> Self {
        // A path without symbolic links, because the library asks the system for the paths of open files.
        let base = tempfile::tempdir_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        fs::create_dir(base.path().join("root")).unwrap();
        fs::write(base.path().join("disk.c"), include_str!("disk.c")).unwrap();
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-O1", "-shared", "-fPIC", "-o", "disk.so", "disk.c", "-ldl"]);
        assert!(compiler.current_dir(base.path()).status().unwrap().success(), "disk.c does not compile");
        Self { base }
    }

    /// The directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    /// The file with the recorded events.
    pub(crate) fn trace(&self) -> PathBuf {
        self.base.path().join("trace")
    }

    /// Puts the library between the process and its disk.
    pub(crate) fn watch(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.base.path().join("disk.so")).env("DISK_ROOT", self.root());
    }
}

/// Makes every sync of the directory's files fail, or stops that.
pub(crate) fn let_syncs_fail(root: &Path, fail: bool) {
    let control = root.with_extension("sync-eio");
    if fail { fs::write(control, "").unwrap() } else { fs::remove_file(control).unwrap() }
}

/// Makes the next sync of one of the directory's files fail.
pub(crate) fn let_next_sync_fail(root: &Path) {
    fs::write(root.with_extension("sync-eio-once"), "").unwrap();
}
