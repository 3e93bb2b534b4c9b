//! Writes to `results/`: each figure with the command that made it and the machine that it ran on.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::thread;

use crate::metadata::Metadata;
use crate::step::{Failure, Result, cargo, read};

/// Writes `results/<name>.md`, headed by the title, the command to make it again and the machine.
pub(crate) fn write(workspace: &Metadata, name: &str, title: &str, command: &str, body: &str) -> Result {
    let mut page = format!("# {title}\n\n    {command}\n\n");
    // Writing into a string cannot fail.
    let _ = writeln!(page, "{}\n\n{}", circumstances(workspace)?, body.trim_end());
    write_file(workspace, &format!("{name}.md"), &page)
}

/// Writes `results/<file>`.
pub(crate) fn write_file(workspace: &Metadata, file: &str, content: &str) -> Result {
    let path = workspace.workspace_root.join("results").join(file);
    fs::create_dir_all(workspace.workspace_root.join("results"))
        .and_then(|()| fs::write(&path, content))
        .map_err(|error| Failure::Because(format!("results/{file} could not be written: {error}")))?;
    eprintln!("    wrote results/{file}");
    Ok(())
}

/// One sentence: which sources, which compiler, how many cores.
fn circumstances(workspace: &Metadata) -> Result<String> {
    let git = |arguments: &str| {
        read(Command::new("git").current_dir(&workspace.workspace_root).args(arguments.split(' ')))
    };
    let commit = git("rev-parse --short HEAD")?;
    // What other tasks wrote makes no difference here.
    let changed = !git("status --porcelain -- . :!results")?.trim().is_empty();
    let changed = if changed { " with uncommitted changes" } else { "" };
    let cargo = read(&mut cargo(["--version"]))?;
    let cores =
        thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    Ok(format!("Commit {}{changed}, {}, cores: {cores}.", commit.trim(), cargo.trim()))
}
