//! Where the file is: whether SQLite can work there, and whether it is still the file that was opened.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::error::Cause;

/// File systems whose locks or shared memory do not work between machines, by their numbers in statfs(2).
const NETWORK_FILE_SYSTEMS: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
];

/// As many symbolic links as Linux follows.
const MAX_LINKS: usize = 40;

/// The device and the inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The identity of the file that is at this path now.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self { device: found.dev(), inode: found.ino() })
    }
}

/// The path in a URL. `None` if it is not a URL of this store.
pub(crate) fn path_of(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite:").filter(|path| !path.contains('?'))?;
    match path.strip_prefix("//") {
        Some(after_host) => after_host.starts_with('/').then_some(after_host),
        None => Some(path).filter(|path| !path.is_empty()),
    }
}

/// The path of the log, which SQLite keeps next to the target of a symbolic link.
pub(crate) fn log_of(path: &Path) -> PathBuf {
    let mut log = follow_links(path).into_os_string();
    log.push("-wal");
    log.into()
}

/// Fails, and says what to do, if SQLite cannot keep a database at this path.
pub(crate) fn check(path: &Path) -> Result<(), Cause> {
    let path = follow_links(path);
    let refuse = |problem| Err(Cause::Location { path: path.clone(), problem });
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::metadata(directory) {
        Err(_) => return refuse("its directory does not exist or cannot be entered; create it first"),
        Ok(found) if !found.is_dir() => return refuse("the path of its directory is a file"),
        Ok(_) => {}
    }
    if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        return refuse("it is not a regular file");
    }
    if rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return refuse("its directory is not writable for this process; SQLite keeps its log there");
    }
    // If the system does not say, SQLite reports what does not work.
    let magic = rustix::fs::statfs(directory).ok().map(|found| magic(&found));
    match magic.and_then(network_file_system) {
        Some(name) => Err(Cause::NetworkFileSystem { path, name }),
        None => Ok(()),
    }
}

fn follow_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(target);
    }
    path
}

#[allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::unnecessary_cast,
    reason = "a pattern of 32 bits, whose type differs between platforms"
)]
fn magic(found: &rustix::fs::StatFs) -> u64 {
    u64::from(found.f_type as u32)
}

fn network_file_system(magic: u64) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(network, _)| *network == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused_and_others_are_not() {
        for (magic, name) in NETWORK_FILE_SYSTEMS {
            assert_eq!(network_file_system(magic), Some(name));
        }
        let local = [0xef53_u64, 0x0102_1994, 0x5846_5342, 0x9123_683e, 0x794c_7630];
        assert!(local.into_iter().all(|magic| network_file_system(magic).is_none()));
    }

    #[test]
    fn a_file_that_is_replaced_is_noticed_and_one_that_grows_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "a").unwrap();
        let opened = FileIdentity::of(&path);
        assert!(opened.is_some());
        fs::write(&path, "longer").unwrap();
        assert_eq!(FileIdentity::of(&path), opened);
        fs::write(directory.path().join("other"), "b").unwrap();
        fs::rename(directory.path().join("other"), &path).unwrap();
        assert_ne!(FileIdentity::of(&path), opened);
        fs::remove_file(&path).unwrap();
        assert_eq!(FileIdentity::of(&path), None);
    }
}
