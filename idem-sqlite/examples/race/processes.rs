//! The processes of the race. Each has its own engine on the one file; the first process synchronizes them.
//!
//! A process prints `ready` when its callers are ready for a key, and starts them when it reads a line. After the last key
//! it prints the result of each caller and key as one line of JSON.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::callers::Asked;

const READY: &str = "ready";

/// Runs the race in other processes. Returns the results of their callers, and how long the race took.
pub(crate) fn run(arguments: &Arguments, directory: &Path) -> Result<(Vec<Asked>, Duration), Box<dyn Error>> {
    let mut processes = (0..arguments.processes)
        .map(|number| Process::start(arguments, directory, number))
        .collect::<Result<Vec<_>, _>>()?;
    for process in &mut processes {
        process.until_ready()?;
    }
    let begun = Instant::now();
    for key in 0..arguments.keys {
        for process in processes.iter_mut().filter(|_| key > 0) {
            process.until_ready()?;
        }
        for process in &mut processes {
            process.start_callers()?;
        }
    }
    let mut asked = Vec::new();
    for process in &mut processes {
        asked.extend(process.answers()?);
    }
    Ok((asked, begun.elapsed()))
}

/// In one of these processes: waits until the callers of all processes are ready.
pub(crate) fn gate() -> io::Result<()> {
    println!("{READY}");
    match io::stdin().lock().read_line(&mut String::new())? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the first process is gone")),
        _ => Ok(()),
    }
}

/// Reports the results of this process's callers to the first process.
pub(crate) fn report(asked: &[Asked]) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for result in asked {
        serde_json::to_writer(&mut out, result)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The numbers of one process's callers. Every process has an equal share.
pub(crate) fn callers_of(process: u32, arguments: &Arguments) -> Range<u32> {
    let first = |process: u32| {
        let callers = u64::from(arguments.callers) * u64::from(process) / u64::from(arguments.processes);
        // At most `callers`, because `process` is at most `processes`.
        u32::try_from(callers).unwrap_or(arguments.callers)
    };
    first(process)..first(process + 1)
}

/// A process of the race. It ends when its standard input is closed, at the latest when this value is dropped.
struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &Arguments, directory: &Path, number: u32) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--keys", &arguments.keys.to_string(), "--callers", &arguments.callers.to_string()]);
        command.args(["--processes", &arguments.processes.to_string(), "--number", &number.to_string()]);
        command.arg("--directory").arg(directory);
        command.args(arguments.without_idem.then_some("--without-idem"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process of the race has no pipes".into());
        };
        Ok(Self { child, to, from: BufReader::new(from) })
    }

    fn until_ready(&mut self) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.trim_end() == READY { Ok(()) } else { Err("a process of the race ended early".into()) }
    }

    fn start_callers(&mut self) -> io::Result<()> {
        self.to.write_all(b"\n")
    }

    fn answers(&mut self) -> Result<Vec<Asked>, Box<dyn Error>> {
        let lines = self.from.by_ref().lines();
        let answers =
            lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<Result<_, Box<dyn Error>>>()?;
        let status = self.child.wait()?;
        if status.success() {
            Ok(answers)
        } else {
            Err(format!("a process of the race ended with {status}").into())
        }
    }
}
