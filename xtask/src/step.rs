//! Running commands, so that a reader of the output sees what ran, and how long it took.

use std::env;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Why a task stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A sentence for the person who ran it.
    Because(String),
    /// A command failed with this status and has said why; a further line would only push its words up.
    Told(u8),
}

/// What every task and most helpers give.
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

/// Runs the last command of a task: it has the last word, and its exit status becomes the task's.
pub(crate) fn finish_with(command: &mut Command) -> Result {
    eprintln!("    {}", shown(command));
    let status = command.stdin(Stdio::null()).status().map_err(|error| unstarted(command, &error))?;
    if status.success() {
        return Ok(());
    }
    // No code, or one that does not fit, means that a signal or the like ended it: a failure all the same.
    Err(Failure::Told(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Runs a command and keeps its output. Fails if it cannot be started; its status is the caller's to judge.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|error| unstarted(command, &error))
}

/// What a command prints to its standard output. Fails, with what it says, unless it succeeds.
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

/// What `rustc -vV` says of one thing, such as its `host` or its `LLVM version`.
pub(crate) fn rustc(about: &str) -> Result<String> {
    let said = read(Command::new("rustc").arg("-vV"))?;
    let value = said.lines().find_map(|line| line.strip_prefix(about)?.strip_prefix(": "));
    value.map_or_else(|| fail(format!("`rustc -vV` does not say its {about}")), |value| Ok(value.to_owned()))
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    // The absolute path of the running cargo tells a reader nothing and differs everywhere.
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|argument| quoted(&argument.to_string_lossy()));
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// A duration as people say it.
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
