//! [`MovedClock`]: a wall clock for other processes that the test moves.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A wall clock for servers: the machine's, plus an offset that the test sets.
///
/// A preloaded library (`LD_PRELOAD`) adds the offset, so that the server's expiry, its `TIME` and its logs follow it.
/// Monotonic clocks (timeouts, event loops) do not change. Clones, and other processes that open the same directory, share
/// one clock.
#[derive(Clone, Debug)]
pub struct MovedClock {
    offset: PathBuf,
    library: PathBuf,
}

impl MovedClock {
    /// Opens the clock of this directory. A new clock shows the machine's time.
    pub fn new(directory: &Path) -> Self {
        let offset = directory.join("moved-clock");
        if !offset.exists() {
            // The file must appear complete: a server that maps a shorter one dies.
            let new = directory.join(format!("moved-clock.{}", std::process::id()));
            fs::write(&new, 0_i64.to_ne_bytes()).expect("the directory can be written");
            // If another process was faster, its file is used.
            let _ = fs::hard_link(&new, &offset);
            fs::remove_file(new).expect("it was just written");
        }
        Self { offset, library: library() }
    }

    /// Puts the process that this command starts under this clock.
    pub fn apply_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("IDEM_MOVED_CLOCK", &self.offset);
    }

    /// Moves the clock forward.
    pub fn forward(&self, by: Duration) {
        self.step(nanoseconds(by));
    }

    /// Moves the clock back.
    pub fn back(&self, by: Duration) {
        self.step(-nanoseconds(by));
    }

    fn step(&self, by: i64) {
        let file = OpenOptions::new().read(true).write(true).open(&self.offset).expect("the clock is there");
        // Two processes may move it at the same time, and no step may be lost.
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .expect("a local file can be locked");
        let mut offset = [0; 8];
        file.read_exact_at(&mut offset, 0).expect("it is 8 bytes");
        let moved = i64::from_ne_bytes(offset) + by;
        file.write_all_at(&moved.to_ne_bytes(), 0).expect("it can be written");
    }
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).expect("three centuries are enough")
}

/// The library. It is compiled once for each build of the tests, into their directory.
fn library() -> PathBuf {
    const SOURCE: &str = include_str!("clock.c");
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let name = format!("idem-moved-clock-{:016x}.so", hasher.finish());
    let library = crate::build_directory().join(name);
    if !library.exists() {
        // Tests that start at the same time each compile their own. The last rename wins.
        let own = library.with_extension(std::process::id().to_string());
        let source = own.with_extension(format!("{}.c", std::process::id()));
        fs::write(&source, SOURCE).expect("the directory of the test programs can be written");
        let compiled = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&own, &source])
            .arg("-ldl")
            .status()
            .expect("there is a C compiler");
        assert!(compiled.success(), "clock.c does not compile");
        fs::rename(own, &library).expect("both are in one directory");
        fs::remove_file(source).expect("it was just written");
    }
    library
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    fn seconds_under(clock: &MovedClock) -> u64 {
        let mut date = Command::new("date");
        clock.apply_to(date.arg("+%s"));
        String::from_utf8(date.output().unwrap().stdout).unwrap().trim().parse().unwrap()
    }

    fn seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    #[test]
    fn a_process_sees_the_moved_time_and_two_openings_are_one_clock() {
        let directory = tempfile::tempdir().unwrap();
        let clock = MovedClock::new(directory.path());
        let before = seconds();
        let seen = seconds_under(&clock);
        assert!((before..=seconds()).contains(&seen));

        let hour = 3600;
        MovedClock::new(directory.path()).forward(Duration::from_secs(hour));
        let before = seconds();
        let seen = seconds_under(&clock);
        assert!((before + hour..=seconds() + hour).contains(&seen));

        clock.back(Duration::from_secs(2 * hour));
        let before = seconds();
        let seen = seconds_under(&clock);
        assert!((before - hour..=seconds() - hour).contains(&seen));
    }
}
