//! [`Process`]: a server that never outlives its test.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running server. It is killed when this is dropped, and also when this process dies without dropping anything.
///
/// `SIGKILL` reaches the process that was started and not its children. A server with children (Postgres) must be one
/// whose children end when their parent is gone.
#[derive(Debug)]
pub struct Process {
    /// A shell that starts the server and waits for it.
    keeper: Child,
    /// The shell's standard input. It closes when this process ends, and then the shell kills the server. It is kept
    /// apart from the child because `wait` would close it first.
    stdin: Option<ChildStdin>,
    server: Pid,
}

/// `$@` is the server. The reader is killed before the server's process number can be reused.
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
    /// If there is no `sh`, or the log cannot be written. A program that cannot be started writes to the log and
    /// [has ended](Self::has_ended).
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
        // A preloaded library is for the server. The shell loads it too, which is harmless.
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut keeper = shell.spawn().expect("there is a shell");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the shell prints the server's process number");
        let server = line.trim().parse().ok().and_then(Pid::from_raw).expect("it is a process number");
        let stdin = keeper.stdin.take();
        Self { keeper, stdin, server }
    }

    /// The server's process number.
    pub fn id(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends `SIGKILL`: the server flushes nothing. Returns when it is gone. Does nothing if it has ended.
    pub fn kill(&mut self) {
        self.end_by(Signal::KILL);
    }

    /// Sends `SIGTERM`: the server shuts down. Returns when it is gone. Does nothing if it has ended.
    pub fn terminate(&mut self) {
        self.end_by(Signal::TERM);
    }

    /// Sends `SIGINT`, on which Postgres ends its sessions at once and shuts down. Returns when it is gone.
    pub fn interrupt(&mut self) {
        self.end_by(Signal::INT);
    }

    /// Sends `SIGSTOP`: the server keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends `SIGCONT`: the server goes on, and reads what it was sent in the meantime.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether the server has ended.
    ///
    /// # Panics
    ///
    /// If the system does not know the process.
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
        // The server may have ended by itself. The shell still runs or is unreaped, so a reuse of the number is unlikely.
        let _ = kill_process(self.server, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // Closed earlier, it would make the shell kill a process number that may be reused.
        self.stdin.take();
    }
}

#[cfg(test)]
mod tests {
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
    fn a_server_is_paused_resumed_and_ended() {
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
    fn a_missing_program_has_ended_and_is_named_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut process = Process::start(&Command::new("no-such-server"), &log);
        process.keeper.wait().unwrap();
        assert!(process.has_ended());
        assert!(fs::read_to_string(&log).unwrap().contains("no-such-server"));
    }

    #[test]
    fn a_server_ends_when_the_process_that_started_it_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut process, _) = sleeper(directory.path());
        // What the system does with the descriptors of a killed process.
        drop(process.stdin.take());
        assert!(!process.keeper.wait().unwrap().success());
    }
}
