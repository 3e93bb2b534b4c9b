//! Runs commands, and prints what ran and how long it took.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Why a task stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A sentence for the person who ran it.
    Because(String),
    /// A command failed with this status and has printed the reason.
    Reported(u8),
}

/// What tasks and most helpers return.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Stops a task with a sentence.
pub(crate) fn fail<T>(reason: impl Into<String>) -> Result<T> {
    Err(Failure::Because(reason.into()))
}

/// Runs a part of a task between two lines that name it and say how long it took.
pub(crate) fn step<T>(name: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("\n==> {name}");
    let begun = Instant::now();
    let done = part();
    let end = if done.is_ok() { "done in" } else { "failed after" };
    eprintln!("==> {name}: {end} {}", seconds(begun.elapsed()));
    done
}

/// Runs a command to its end with its output shown, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result {
    eprintln!("    {}", shown(command));
    let status = command.stdin(Stdio::null()).status().map_err(|error| unstarted(command, &error))?;
    if status.success() { Ok(()) } else { fail(format!("`{}` failed ({status})", shown(command))) }
}

/// Runs the last command of a task. Its exit status becomes the task's, and nothing is printed after it.
pub(crate) fn finish_with(command: &mut Command) -> Result {
    eprintln!("    {}", shown(command));
    let status = command.stdin(Stdio::null()).status().map_err(|error| unstarted(command, &error))?;
    if status.success() {
        return Ok(());
    }
    // A command that a signal ended has no code.
    Err(Failure::Reported(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Runs a command and returns its output and status. Fails only if it cannot be started.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| unstarted(command, &error))
}

/// Returns what a command prints to standard output. Fails with its error output unless it succeeds.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = capture(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    fail(format!("`{}` failed ({})\n{}", shown(command), output.status, said.trim_end()))
}

/// Whether a command can be started and succeeds. Its output is discarded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    capture(command).is_ok_and(|output| output.status.success())
}

/// The `cargo` that runs this task.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments);
    cargo
}

/// Returns one line of `rustc -vV`, such as `host` or `LLVM version`.
pub(crate) fn rustc(about: &str) -> Result<String> {
    let said = read(Command::new("rustc").arg("-vV"))?;
    let value = said.lines().find_map(|line| line.strip_prefix(about)?.strip_prefix(": "));
    value.map_or_else(|| fail(format!("`rustc -vV` does not say its {about}")), |value| Ok(value.to_owned()))
}

/// A command as a person types it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    // The absolute path of cargo differs on every machine.
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// A duration for people to read.
pub(crate) fn seconds(duration: Duration) -> String {
    let (whole, tenths) = (duration.as_secs(), duration.subsec_millis() / 100);
    if whole < 60 { format!("{whole}.{tenths} s") } else { format!("{} min {} s", whole / 60, whole % 60) }
}

fn quoted(word: &str) -> String {
    if word.contains(|c: char| c.is_whitespace() || "|()".contains(c)) {
        format!("'{word}'")
    } else {
        word.to_owned()
    }
}

fn unstarted(command: &Command, error: &std::io::Error) -> Failure {
    Failure::Because(format!("`{}` could not be started: {error}", shown(command)))
}
