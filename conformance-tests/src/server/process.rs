//! [`Process`]: a server that never outlives its test.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

/// A running server. Killed when this is dropped, and also when this process dies without dropping anything.
///
/// A `SIGKILL` reaches the process that was started and not its children; a server that has some (Postgres) must be
/// one whose children go when their parent is gone.
#[derive(Debug)]
pub struct Process {
    /// A shell that starts the server and waits for it.
    keeper: Child,
    /// The shell's standard input. It closes when this process ends, in whatever way, and then the shell kills the
    /// server. Held apart from the child, since `wait` would close it first.
    held: Option<ChildStdin>,
    server: Pid,
}

/// `$@` is the server. The reader is killed before its number may go to another process.
const KEEPER: &str = r#"
exec 3<&0 4>&1 >/dev/null
"$@" </dev/null 3<&- 4>&- >&2 &
server=$!
echo "$server" >&4
exec 4>&-
(read -r nothing <&3; kill -KILL "$server") 2>/dev/null &
reader=$!
wait "$server"
status=$?
kill -KILL "$reader" 2>/dev/null
exit "$status"
"#;

impl Process {
    /// Starts a server: the command's program, arguments, directory and environment, with its standard output and
    /// error appended to `log`. It must not put itself into the background.
    ///
    /// # Panics
    ///
    /// If there is no `sh`, or the log cannot be written. A program that cannot be started says so in the log, and
    /// [`has_ended`](Self::has_ended).
    pub fn start(command: &Command, log: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("the log can be written");
        let mut shell = Command::new("sh");
        shell.args(["-c", KEEPER, "keeper"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            shell.current_dir(directory);
        }
        // What is preloaded is for the server; the shell would open the server's clock, too, which harms nobody.
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = shell.spawn().expect("there is a shell");
        let mut told = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut told).expect("the shell tells the server's number");
        let server = told.trim().parse().ok().and_then(Pid::from_raw).expect("it is a process number");
        let held = keeper.stdin.take();
        Self { keeper, held, server }
    }

    /// The server's process number.
    pub fn id(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// `SIGKILL`: no goodbye, no flush. Returns once the server is gone; again is fine.
    pub fn kill(&mut self) {
        self.end_by(Signal::KILL);
    }

    /// `SIGTERM`: the server ends in its own way. Returns once it is gone; again is fine.
    pub fn terminate(&mut self) {
        self.end_by(Signal::TERM);
    }

    /// `SIGINT`, which some servers (Postgres) take as "end now, and tell your clients".
    pub fn interrupt(&mut self) {
        self.end_by(Signal::INT);
    }

    /// `SIGSTOP`: it keeps its connections and answers none of them.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// `SIGCONT`: it goes on, with everything that has been sent to it meanwhile.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether the server has ended.
    ///
    /// # Panics
    ///
    /// If the system does not tell.
    pub fn has_ended(&mut self) -> bool {
        self.keeper.try_wait().expect("it is our child").is_some()
    }

    fn end_by(&mut self, signal: Signal) {
        if self.has_ended() {
            return;
        }
        self.signal(signal);
        if signal != Signal::KILL {
            self.resume();
        }
        self.keeper.wait().expect("it is our child");
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself; the shell has not been waited for, so that the number is hardly another's.
        let _ = kill_process(self.server, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Only now: it would have been the shell's sign to kill whoever has this number.
        self.held.take();
    }
}

/// A port of the loopback interface on which nobody listens, and which no other test process on this machine is given as
/// long as this one lives.
///
/// Two things took ports away between the choice and the server's start, each seen in a run: other tests, which now see a
/// lock, and outgoing connections, which the system gives higher ports than these.
///
/// # Panics
///
/// If the directory for temporary files cannot be written.
pub fn free_port() -> u16 {
    /// Locks, which end with this process.
    static GIVEN: Mutex<Vec<File>> = Mutex::new(Vec::new());
    const PORTS: std::ops::Range<u64> = 10_240..32_000;

    let locks = std::env::temp_dir().join(format!("idem-test-ports-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&locks).expect("the directory for temporary files can be written");
    loop {
        let random = RandomState::new().hash_one(std::process::id());
        let port = PORTS.start + random % (PORTS.end - PORTS.start);
        let lock =
            OpenOptions::new().create(true).write(true).truncate(false).open(locks.join(port.to_string()));
        let lock = lock.expect("the directory is ours");
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let port = u16::try_from(port).expect("they end before");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            GIVEN.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use std::fs;
    use std::io::ErrorKind;
    use std::path::PathBuf;

    use super::*;

    /// A server that writes one line and then waits for its end.
    fn sleeper(directory: &Path) -> (Process, PathBuf) {
        let log = directory.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo \"hello $NAME\"; exec sleep 1000"]).env("NAME", "log");
        (Process::start(&command, &log), log)
    }

    fn state(process: &Process) -> Option<char> {
        match fs::read_to_string(format!("/proc/{}/stat", process.id())) {
            Ok(stat) => stat.rsplit_once(") ").unwrap().1.chars().next(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                None
            }
        }
    }

    fn eventually(holds: impl Fn() -> bool) {
        while !holds() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_server_writes_its_log_and_is_killed_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let (process, log) = sleeper(directory.path());
        eventually(|| fs::read_to_string(&log).unwrap() == "hello log\n");
        let stat = format!("/proc/{}", process.id());
        drop(process);
        assert!(!Path::new(&stat).exists());
    }

    #[test]
    fn it_is_paused_resumed_and_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (mut process, _) = sleeper(directory.path());
        process.pause();
        eventually(|| state(&process) == Some('T'));
        process.resume();
        eventually(|| state(&process) == Some('S'));
        assert!(!process.has_ended());
        process.pause();
        process.terminate();
        assert!(process.has_ended());
        process.kill();
    }

    #[test]
    fn a_program_that_is_not_there_has_ended_and_says_so_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process = Process::start(&Command::new("no-such-server"), &log);
        process.keeper.wait().unwrap();
        assert!(process.has_ended());
        assert!(fs::read_to_string(&log).unwrap().contains("no-such-server"));
    }

    #[test]
    fn the_server_goes_when_the_process_that_started_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut process, _) = sleeper(directory.path());
        // What the system does with the descriptors of a killed process.
        drop(process.held.take());
        assert!(!process.keeper.wait().unwrap().success());
    }

    #[test]
    fn free_ports_can_be_listened_on() {
        TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    }

    #[test]
    fn a_port_is_given_once() {
        let ports: std::collections::HashSet<_> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
        for port in ports {
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
