//! Where the file is: whether that is a place for a database, and whether it is still the one that was opened.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Cause;

/// File systems whose locks or shared memory are not to be relied on, by the numbers of statfs(2).
const NETWORK: [(u64, &str); 9] = [
    (0x6969, "it is on a network file system (NFS); SQLite's log needs a disk of this machine"),
    (0x517b, "it is on a network file system (SMB); SQLite's log needs a disk of this machine"),
    (0xff53_4d42, "it is on a network file system (CIFS); SQLite's log needs a disk of this machine"),
    (0xfe53_4d42, "it is on a network file system (SMB2); SQLite's log needs a disk of this machine"),
    (0x0102_1997, "it is on a shared file system (9p); SQLite's log needs a disk of this machine"),
    (0x5346_414f, "it is on a network file system (AFS); SQLite's log needs a disk of this machine"),
    (0x00c3_6400, "it is on a network file system (Ceph); SQLite's log needs a disk of this machine"),
    (0x0bd0_0bd0, "it is on a network file system (Lustre); SQLite's log needs a disk of this machine"),
    (0x4750_4653, "it is on a network file system (GPFS); SQLite's log needs a disk of this machine"),
];

/// The SQLite that has no WAL-reset bug.
const LEAST_SQLITE: i32 = 3_051_003;

/// A path, and the file that was found there when it was opened.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    identity: (u64, u64),
}

impl Place {
    /// The file that was just opened at this path.
    pub(crate) fn of(path: &Path) -> Result<Self, Cause> {
        let found = fs::metadata(path).map_err(|_| Cause::Replaced { path: path.to_owned() })?;
        Ok(Self { path: path.to_owned(), identity: identity(&found) })
    }

    /// Fails if another file is there now, or none: what is written would be lost, or another process would not see it.
    pub(crate) fn check(&self) -> Result<(), Cause> {
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(()),
            _ => Err(Cause::Replaced { path: self.path.clone() }),
        }
    }
}

/// Where the path leads, if it is a link: SQLite keeps the log there.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as the system itself follows.
    for _ in 0..40 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path
}

/// Fails, with what to do, where no database can be.
pub(crate) fn check_before_opening(path: &Path) -> Result<(), Cause> {
    let path = &followed(path);
    let refuse = |problem| Err(Cause::Place { path: path.to_owned(), problem });
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::metadata(directory) {
        Err(_) => return refuse("its directory does not exist or cannot be entered; create it first"),
        Ok(found) if !found.is_dir() => return refuse("what should be its directory is a file"),
        Ok(_) => {}
    }
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return refuse("it is not a regular file");
    }
    // The log and its index are files beside it, so the directory has to be writable, too.
    if is_not_writable(directory) {
        return refuse("its directory is not writable for this process; SQLite keeps its log there");
    }
    match rustix::fs::statfs(directory) {
        Ok(found) => file_system_is_local(magic(&found)).or_else(refuse),
        // What cannot be asked is not refused: SQLite will say if it does not work.
        Err(_) => Ok(()),
    }
}

/// Fails if the library that was linked is too old.
pub(crate) fn check_sqlite(number: i32, version: &'static str) -> Result<(), Cause> {
    if number < LEAST_SQLITE { Err(Cause::OldSqlite { found: version }) } else { Ok(()) }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn is_not_writable(directory: &Path) -> bool {
    rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_err()
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "32 bits of pattern, whose type differs by platform"
)]
fn magic(found: &rustix::fs::StatFs) -> u64 {
    u64::from(found.f_type as u32)
}

fn file_system_is_local(magic: u64) -> Result<(), &'static str> {
    match NETWORK.iter().find(|(network, _)| *network == magic) {
        Some((_, problem)) => Err(problem),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused_by_its_number() {
        assert!(check_sqlite(3_051_002, "3.51.2").is_err());
        assert!(check_sqlite(3_051_003, "3.51.3").is_ok());
        assert!(check_sqlite(rusqlite::version_number(), rusqlite::version()).is_ok());
    }

    #[test]
    fn network_file_systems_are_refused_and_others_are_not() {
        for (magic, _) in NETWORK {
            assert!(file_system_is_local(magic).unwrap_err().contains("file system"));
        }
        let local = [0xef53_u64, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630];
        assert!(local.into_iter().all(|magic| file_system_is_local(magic).is_ok()));
    }

    #[test]
    fn a_file_that_is_replaced_is_noticed_and_one_that_grows_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "a").unwrap();
        let place = Place::of(&path).unwrap();
        fs::write(&path, "longer").unwrap();
        place.check().unwrap();
        fs::write(directory.path().join("other"), "b").unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        assert_eq!(place.check().unwrap_err(), Cause::Replaced { path: path.clone() });
        fs::remove_file(&path).unwrap();
        assert!(place.check().is_err());
    }
}
