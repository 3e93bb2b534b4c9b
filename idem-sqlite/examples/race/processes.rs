//! The processes of the race. Each has an engine of its own on the one file; this one lets them start together.
//!
//! A process says `ready` on its standard output when its callers have gathered for a key, and lets them go when it
//! reads a line. After the last key it says what each caller was told, as one line of JSON a caller and key.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Arguments;
use crate::callers::Asked;

const READY: &str = "ready";

/// Runs the race in processes of their own. What their callers were told, and how long it took them.
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
            process.let_go()?;
        }
    }
    let mut asked = Vec::new();
    for process in &mut processes {
        asked.extend(process.answers()?);
    }
    Ok((asked, begun.elapsed()))
}

/// The other side of it, in such a process: waits until the callers of all processes have gathered.
pub(crate) fn gate() -> io::Result<()> {
    println!("{READY}");
    match io::stdin().lock().read_line(&mut String::new())? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the first process is gone")),
        _ => Ok(()),
    }
}

/// Tells the first process what the callers of this one were told.
pub(crate) fn report(asked: &[Asked]) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for told in asked {
        serde_json::to_writer(&mut out, told)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The callers of one process: every process has its share, and the numbers go on from one to the next.
pub(crate) fn callers_of(process: u32, arguments: &Arguments) -> Range<u32> {
    let first = |process: u32| {
        let callers = u64::from(arguments.callers) * u64::from(process) / u64::from(arguments.processes);
        // Not more than `callers`, since `process` is not more than `processes`.
        u32::try_from(callers).unwrap_or(arguments.callers)
    };
    first(process)..first(process + 1)
}

/// A process of the race. It ends when its standard input does, at the latest with this value.
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

    fn let_go(&mut self) -> io::Result<()> {
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
