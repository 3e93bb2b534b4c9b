//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use idem_core::{ExpiredLeasePolicy, InFlightPolicy, StoreFailurePolicy};

/// Creates resources, each request once
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serves `POST /db`, `/cache` and `/nosql`
    Serve(Serve),
    /// Sends every request many times at the same instant, and checks that each ran once
    Race(Race),
}

#[derive(Args, Clone)]
pub(crate) struct Serve {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Where the keys are kept: `memory:`, `sqlite:PATH`, `redis://..`, `redis+cluster://..` or `postgres://..`
    #[arg(long, value_name = "URL")]
    pub(crate) store: String,
    /// The SQLite file with a row for each run of a handler; not with `--transactional`
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "transactional",
        conflicts_with = "transactional"
    )]
    pub(crate) ledger: Option<PathBuf>,
    /// How long a silent owner blocks its key
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) lease: Duration,
    /// How long answers are kept
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) retention: Duration,
    /// How long a request without a key counts as the same one
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub(crate) fingerprint_window: Duration,
    /// What a duplicate of a running request gets: `reject`, or `wait=5s`
    #[arg(long, value_name = "POLICY", default_value = "reject", value_parser = in_flight)]
    pub(crate) in_flight: InFlightPolicy,
    /// What happens when an earlier owner's lease is over
    #[arg(long, value_enum, default_value_t = ExpiredLease::TakeOver)]
    pub(crate) expired_lease: ExpiredLease,
    /// What happens while the store cannot be reached
    #[arg(long, value_enum, default_value_t = OnStoreError::Closed)]
    pub(crate) on_store_error: OnStoreError,
    /// Write the ledger in the store's own database, in the transaction that completes the request
    #[arg(long)]
    pub(crate) transactional: bool,
    /// Let requests say how they are to end, and show the ledger
    #[arg(long)]
    pub(crate) simulate: bool,
}

#[derive(Args)]
pub(crate) struct Race {
    /// Where the keys are kept, as for `serve`; by default, SQLite in a temporary directory
    #[arg(long, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// How many different requests there are
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) keys: u32,
    /// How often each of them is sent at the same instant
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) duplicates: u32,
}

impl Serve {
    /// The defaults, for a service that is not started from the command line.
    pub(crate) fn on(store: String, ledger: PathBuf) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            store,
            ledger: Some(ledger),
            lease: Duration::from_secs(60),
            retention: Duration::from_secs(24 * 3600),
            fingerprint_window: Duration::from_secs(120),
            in_flight: InFlightPolicy::Reject,
            expired_lease: ExpiredLease::TakeOver,
            on_store_error: OnStoreError::Closed,
            transactional: false,
            simulate: false,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ExpiredLease {
    /// The next request runs, as a further attempt
    TakeOver,
    /// The key stays blocked until an operator resolves it
    Refuse,
}

impl From<ExpiredLease> for ExpiredLeasePolicy {
    fn from(choice: ExpiredLease) -> Self {
        match choice {
            ExpiredLease::TakeOver => Self::TakeOver,
            ExpiredLease::Refuse => Self::Refuse,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum OnStoreError {
    /// The handler does not run
    Closed,
    /// The handler runs without protection
    Open,
}

impl From<OnStoreError> for StoreFailurePolicy {
    fn from(choice: OnStoreError) -> Self {
        match choice {
            OnStoreError::Closed => Self::FailClosed,
            OnStoreError::Open => Self::FailOpen,
        }
    }
}

/// `500ms`, `60s`, `2m`, `24h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 500ms, 60s, 2m, 24h or 7d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// `reject`, or `wait=` and a duration.
fn in_flight(text: &str) -> Result<InFlightPolicy, String> {
    match text.split_once('=') {
        None if text == "reject" => Ok(InFlightPolicy::Reject),
        Some(("wait", at_most)) => Ok(InFlightPolicy::Wait { timeout: duration(at_most)? }),
        _ => Err(format!("`{text}` is neither `reject` nor `wait=` and a duration")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        let parsed = ["500ms", "60s", "2m", "24h", "7d"].map(|text| duration(text).unwrap().as_millis());
        assert_eq!(parsed, [500, 60_000, 120_000, 86_400_000, 604_800_000]);
        for wrong in ["", "60", "s", "-1s", "1.5s", "1y", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duplicate_is_rejected_or_waits() {
        assert_eq!(in_flight("reject"), Ok(InFlightPolicy::Reject));
        assert_eq!(in_flight("wait=5s"), Ok(InFlightPolicy::Wait { timeout: Duration::from_secs(5) }));
        assert!(in_flight("wait").is_err() && in_flight("reject=5s").is_err());
    }

    #[test]
    fn a_ledger_is_given_exactly_if_the_service_is_not_transactional() {
        let parse = |arguments: &str| Arguments::try_parse_from(arguments.split(' ')).is_ok();
        assert!(parse("provision serve --store memory: --ledger l.db"));
        assert!(parse("provision serve --store sqlite:s.db --transactional"));
        assert!(!parse("provision serve --store memory:"));
        assert!(!parse("provision serve --store sqlite:s.db --transactional --ledger l.db"));
    }
}
