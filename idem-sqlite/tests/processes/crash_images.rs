//! Crashes of the machine. A library records everything that a process writes and syncs. The test rebuilds the files as a
//! disk can hold them after a crash at some instant, and opens the store on them.
//!
//! Every acknowledged operation must be there, and nothing may be damaged. At `synchronous=NORMAL` some images must show
//! losses: otherwise this test could not see losses at `FULL` either.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, StateView};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, Key, ReleaseOutcome, ReservationStore, StoredValue,
};
use idem_sqlite::{Clock, SqliteOptions, SqliteStore, Synchronous, TransactionOutcome};
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::disk::Disk;
use crate::image::{Files, Rng, Unsynced};
use crate::support::{DAY, key, payload};
use crate::trace::{self, Event, What};
use crate::worker::{command, trial};

/// The clients of the process that crashes. Each has its own keys.
const CLIENTS: usize = 6;
const KEYS_EACH: usize = 12;
/// How many times the process runs. Every run has another history.
const RUNS: u64 = 4;
const SEED: u64 = 0x1de3;
/// The file in which the process lists what was acknowledged.
const ACKNOWLEDGED: &str = "acknowledged";
const SYNCHRONOUS: &str = "IDEM_SQLITE_SYNCHRONOUS";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_thousand_crashes_at_full_lose_nothing_that_was_acknowledged", || {
            let seen = crash(Synchronous::Full, 1000);
            assert_eq!(seen, Seen { images: 1000, with_losses: 0, damaged: 0 });
        }),
        trial("crashes_at_normal_lose_the_latest_operations_and_damage_nothing", || {
            let seen = crash(Synchronous::Normal, 200);
            assert!(seen.with_losses > 0, "this test cannot see losses: {seen:?}");
            assert_eq!(seen.damaged, 0, "{seen:?}");
        }),
    ]
}

/// What the images showed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    images: usize,
    with_losses: usize,
    damaged: usize,
}

/// Runs the process, and looks at crashes spread over its run.
fn crash(synchronous: Synchronous, images: usize) -> Seen {
    let mut seen = Seen::default();
    for run in 0..RUNS {
        let disk = Disk::new();
        let mut process: Command = command("workload", &disk.root());
        disk.watch(&mut process);
        process.env("DISK_TRACE", disk.trace());
        process.env(SYNCHRONOUS, if synchronous == Synchronous::Full { "full" } else { "normal" });
        assert!(process.status().unwrap().success());
        let events = trace::read(&disk.trace());
        look_at_crashes(&events, images / usize::try_from(RUNS).unwrap(), SEED ^ run, &mut seen);
    }
    println!("synchronous={synchronous:?}: {seen:?}");
    seen
}

/// Looks at this many instants of a history, evenly spread. In turn each is a kill, a crash that kept nothing unsynced,
/// or a crash that kept parts of it.
fn look_at_crashes(events: &[Event], images: usize, from: u64, seen: &mut Seen) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut files, mut acknowledged, mut rng) = (Files::default(), HashMap::new(), Rng(from));
    let mut looked = 0;
    for (number, event) in events.iter().enumerate() {
        files.follow(event);
        if let What::Append { line } = &event.what {
            assert_eq!(event.file, ACKNOWLEDGED);
            let (key, step) = line.trim_end().split_once(' ').unwrap();
            acknowledged.insert(key.to_owned(), step.parse::<usize>().unwrap());
        }
        while looked < images && (looked + 1) * events.len() <= (number + 1) * images {
            let unsynced = match looked % 4 {
                0 => Unsynced::All,
                1 => Unsynced::Nothing,
                _ => Unsynced::Torn,
            };
            let directory = tempfile::tempdir().unwrap();
            files.write(directory.path(), unsynced, &mut rng);
            let lost = runtime.block_on(look_at(&directory, &acknowledged));
            looked += 1;
            seen.images += 1;
            match lost {
                Ok(lost) => seen.with_losses += usize::from(!lost.is_empty()),
                Err(why) => {
                    println!("image {looked} at event {number} of {}, {unsynced:?}: {why}", events.len());
                    seen.damaged += 1;
                }
            }
        }
    }
}

/// Opens the store on an image. Returns the acknowledged operations that are lost, or what is damaged.
async fn look_at(
    image: &TempDir,
    acknowledged: &HashMap<String, usize>,
) -> Result<Vec<(String, usize)>, String> {
    // What is written here need not survive.
    let options = options().synchronous(Synchronous::Normal).maintenance_interval(Duration::from_secs(3600));
    let path = image.path().join("idem.db");
    let store = SqliteStore::open(&path, options).await.map_err(|error| format!("open: {error:?}"))?;
    let check = rusqlite::Connection::open(&path).unwrap();
    let integrity: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    if integrity != "ok" {
        return Err(integrity);
    }
    let mut lost = Vec::new();
    for client in 0..CLIENTS {
        for number in 0..KEYS_EACH {
            let name = Plan::name(client, number);
            let plan = Plan::of(client, number);
            let expected = acknowledged.get(&name).copied().unwrap_or_default();
            let found = plan.steps_found(&store, &check).await.map_err(|why| format!("{name}: {why}"))?;
            if found < expected {
                lost.push((name, expected));
            } else if found > expected + 1 {
                return Err(format!("{name}: step {found} is there, but only {expected} were acknowledged"));
            }
        }
    }
    drop(check);
    store.close().await;
    Ok(lost)
}

/// What a client does with one key: it reserves the key, and then ends the reservation in one of four ways.
struct Plan {
    key: Key,
    owner: OwnerToken,
    end: End,
    body: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Release,
    Abandon,
    /// Completes together with a row of its own.
    Effect,
}

impl Plan {
    fn name(client: usize, number: usize) -> String {
        format!("{client}-{number}")
    }

    fn of(client: usize, number: usize) -> Self {
        let name = Self::name(client, number);
        let mut owner = [7; 16];
        owner[..2].copy_from_slice(&[u8::try_from(client).unwrap(), u8::try_from(number).unwrap()]);
        let end = [End::Complete, End::Release, End::Abandon, End::Effect][(client + number) % 4];
        // Some answers fill several pages.
        let body = name.bytes().cycle().take(10 + (number % 3) * 3000).collect();
        Self { key: key(&name), owner: OwnerToken::from_bytes(owner), end, body }
    }

    fn request(&self) -> ReserveRequest {
        ReserveRequest::new(self.owner, payload(), span(DAY))
    }

    fn answer(&self) -> Answer {
        StoredValue::bytes(self.body.clone()).into()
    }

    /// Reserves the key.
    async fn begin(&self, store: &SqliteStore) {
        let reserved = store.reserve(&self.key, self.request()).await.unwrap();
        assert!(matches!(reserved, ReserveOutcome::Reserved { attempt: 1, .. }), "{reserved:?}");
    }

    /// Ends the reservation.
    async fn end(&self, store: &SqliteStore) {
        match self.end {
            End::Complete => {
                let completion = Completion::new(self.answer(), span(DAY));
                let outcome = store.complete(&self.key, self.owner, completion).await.unwrap();
                assert_eq!(outcome, CompleteOutcome::Completed);
            }
            End::Release => {
                assert_eq!(store.release(&self.key, self.owner).await.unwrap(), ReleaseOutcome::Released);
            }
            End::Abandon => {
                assert_eq!(store.abandon(&self.key, self.owner).await.unwrap(), AbandonOutcome::Abandoned);
            }
            End::Effect => {
                let (entry, answer) = (self.key.name().to_vec(), self.answer());
                let outcome = store.complete_with(&self.key, self.owner, DAY, move |connection| {
                    let rows = connection.execute("INSERT INTO ledger (entry) VALUES (?1)", [entry])?;
                    Ok::<_, rusqlite::Error>((rows, answer))
                });
                assert_eq!(outcome.await.unwrap(), TransactionOutcome::Completed(1));
            }
        }
    }

    /// How many of the two steps are there. An effect without its completion, or a completion without its effect, is
    /// damage.
    async fn steps_found(&self, store: &SqliteStore, check: &rusqlite::Connection) -> Result<usize, String> {
        let view = store.get(&self.key).await.map_err(|error| format!("{error:?}"))?;
        let found = match view.map(|view| view.state) {
            Some(StateView::InFlight { abandoned: true, .. }) if self.end == End::Abandon => 2,
            Some(StateView::InFlight { abandoned: false, .. }) => 1,
            Some(StateView::Completed { answer, .. })
                if answer == self.answer() && matches!(self.end, End::Complete | End::Effect) =>
            {
                2
            }
            Some(other) => return Err(format!("a state that was never written: {other:?}")),
            None if self.end == End::Release => {
                match store.reserve(&self.key, self.request()).await.map_err(|error| format!("{error:?}"))? {
                    ReserveOutcome::Stale => 2,
                    ReserveOutcome::Reserved { attempt: 1, .. } => 0,
                    other => return Err(format!("{other:?}")),
                }
            }
            None => 0,
        };
        if self.end == End::Effect {
            let count = "SELECT count(*) FROM ledger WHERE entry = ?1";
            // A crash may come before the table.
            let rows: u32 = check.query_row(count, [self.key.name()], |row| row.get(0)).unwrap_or(0);
            if rows != u32::from(found == 2) {
                return Err(format!("{rows} rows of its effect after step {found}"));
            }
        }
        Ok(found)
    }
}

/// Options with a clock that stands still: no lease ends, and nothing expires.
fn options() -> SqliteOptions {
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    SqliteOptions::new().clock(Clock::from_fn(move || now))
}

/// The process that crashes. It ends without closing anything.
pub(crate) async fn work(directory: &Path) {
    let synchronous = match std::env::var(SYNCHRONOUS).unwrap().as_str() {
        "full" => Synchronous::Full,
        _ => Synchronous::Normal,
    };
    // Often enough that the log is written back and started again during the run.
    let options = options().synchronous(synchronous).maintenance_interval(Duration::from_millis(3));
    let path = directory.join("idem.db");
    let store = SqliteStore::open(&path, options).await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("CREATE TABLE ledger (entry BLOB NOT NULL) STRICT").unwrap();
    drop(connection);
    let acknowledged = directory.join(ACKNOWLEDGED);
    let acknowledged =
        Arc::new(Mutex::new(OpenOptions::new().create(true).append(true).open(acknowledged).unwrap()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (store, acknowledged) = (store.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for number in 0..KEYS_EACH {
                    let plan = Plan::of(client, number);
                    plan.begin(&store).await;
                    say(&acknowledged, client, number, 1);
                    plan.end(&store).await;
                    say(&acknowledged, client, number, 2);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
}

/// Lists a step as acknowledged, in one write, so that it has one position among the store's writes.
fn say(acknowledged: &Mutex<File>, client: usize, number: usize, step: usize) {
    let line = format!("{} {step}\n", Plan::name(client, number));
    acknowledged.lock().unwrap().write_all(line.as_bytes()).unwrap();
}
