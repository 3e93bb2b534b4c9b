//! The race: every request many times at the same instant, over real HTTP, and then who is right.

mod callers;
mod verdict;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::arguments::{Race, Serve};
use crate::failure::Failure;
use crate::race::callers::Plan;
use crate::race::verdict::Verdict;
use crate::serve;
use crate::service::Service;

/// Starts the service in this process, races against it, and prints the table.
pub(crate) async fn race(options: Race) -> Result<ExitCode, Failure> {
    let directory = tempfile::tempdir()?;
    let ledger = directory.path().join("ledger.db");
    let store =
        options.store.unwrap_or_else(|| format!("sqlite:{}", directory.path().join("idem.db").display()));
    let scheme = store.split(':').next().unwrap_or_default().to_owned();

    let service = Service::open(&Serve::on(store, ledger.clone())).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve::run(service, listener, stopped));

    let plan = Plan::new(options.keys, options.duplicates);
    let begun = Instant::now();
    let asked = callers::race(address, &plan).await?;
    let duration = begun.elapsed();
    stop.send_replace(true);
    serving.await??;

    let verdict = Verdict::of(&plan, &asked, &ledger)?;
    writeln!(std::io::stdout(), "{}\n{verdict}", verdict.table(&scheme, duration))?;
    Ok(if verdict.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
