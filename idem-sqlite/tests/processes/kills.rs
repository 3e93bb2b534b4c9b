//! Exactly once, also after a kill: a process is killed at a chosen point of a request, two others serve the retries, and
//! SQL counts the effects.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime};

use idem_core::{Admission, CompleteOutcome, Engine, InFlightPolicy, StoredValue};
use idem_sqlite::{Clock, SqliteOptions, SqliteStore, TransactionOutcome};
use libtest_mimic::Trial;
use rusqlite::Connection;

use crate::image::Rng;
use crate::support::{key, payload};
use crate::worker::{command, trial};

const ROUNDS: u64 = 30;
const SEED: u64 = 0x1de4;
const LEASE: Duration = Duration::from_secs(60);

const KEY: &str = "IDEM_SQLITE_KEY";
/// The point where the process stops, prints that, and waits to be killed.
const WINDOW: &str = "IDEM_SQLITE_WINDOW";
/// How many seconds its clock is ahead.
const AHEAD: &str = "IDEM_SQLITE_AHEAD";
/// Whether the effect and the completion are one transaction.
const TRANSACTIONAL: &str = "IDEM_SQLITE_TRANSACTIONAL";

/// The points, in the order in which a request passes them.
const BEFORE_THE_RESERVATION: &str = "before the reservation";
const AFTER_THE_RESERVATION: &str = "after the reservation";
const INSIDE_THE_TRANSACTION: &str = "inside the transaction";
const AFTER_THE_EFFECT: &str = "after the effect, before the completion";
const BEFORE_THE_ANSWER: &str = "between the commit and the answer";
const AFTER_THE_ANSWER: &str = "after the answer";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("with_transactional_completion_a_kill_anywhere_leaves_exactly_one_effect", || {
            let windows = [
                BEFORE_THE_RESERVATION,
                AFTER_THE_RESERVATION,
                INSIDE_THE_TRANSACTION,
                BEFORE_THE_ANSWER,
                AFTER_THE_ANSWER,
            ];
            kill(&windows, true, |_, attempts| assert_eq!(attempts.len(), 1, "effects of {attempts:?}"));
        }),
        trial("without_transactional_completion_a_repeated_effect_is_never_silent", || {
            let windows = [AFTER_THE_RESERVATION, AFTER_THE_EFFECT, BEFORE_THE_ANSWER];
            kill(&windows, false, |window, attempts| match window {
                // The effect happened twice, and the second run knew that it might.
                AFTER_THE_EFFECT => assert_eq!(attempts, [1, 2]),
                // The effect happened once, in the second run, which knew that there was an earlier one.
                AFTER_THE_RESERVATION => assert_eq!(attempts, [2]),
                _ => assert_eq!(attempts, [1]),
            });
        }),
    ]
}

/// Runs rounds of one key each. The seed decides the order of the windows; each has equally many rounds. `judge` gets the
/// window and the attempts whose effects are in the ledger.
fn kill(windows: &[&'static str], transactional: bool, judge: impl Fn(&str, &[u32])) {
    let directory = tempfile::tempdir().unwrap();
    make_ledger(directory.path());
    let mut rng = Rng(SEED);
    let mut left = Vec::new();
    for round in 0..ROUNDS {
        if left.is_empty() {
            left = windows.to_vec();
        }
        let drawn = usize::try_from(rng.below(left.len() as u64)).unwrap();
        let window = left.swap_remove(drawn);
        println!("seed {SEED:#x}, round {round}: killed {window}");
        let provider = |window: &str, ahead: Duration| {
            Provider::start(directory.path(), round, window, ahead, transactional)
        };

        let mut killed = provider(window, Duration::ZERO);
        let answered = killed.read_until(&format!("at {window}"));
        killed.kill();
        confirm(directory.path(), round, window, transactional);

        // Two other processes, whose clock says that the killed one's lease is over.
        let retries = [(); 2].map(|()| provider("", 2 * LEASE));
        let mut answers: Vec<_> = retries.into_iter().map(|mut retry| retry.read_until("end")).collect();
        answers.push(answered);
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(answers.len(), if window == AFTER_THE_ANSWER { 3 } else { 2 }, "{answers:?}");
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
        judge(window, &attempts(directory.path(), round));
    }
}

/// Checks in the file that the process was killed at the chosen point.
fn confirm(directory: &Path, round: u64, window: &str, transactional: bool) {
    let record = "SELECT count(*), max(length(record)) FROM idem_record WHERE key = ?1";
    let name = name_of(round);
    let (records, length): (u32, Option<u32>) = open_ledger(directory)
        .query_row(record, [key(&name).as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap_or_default();
    let (effects, is_completed) =
        (attempts(directory, round).len(), length.is_some_and(|length| length > LONG));
    let expected = match window {
        BEFORE_THE_RESERVATION => (0, 0, false),
        AFTER_THE_RESERVATION | INSIDE_THE_TRANSACTION => (1, 0, false),
        AFTER_THE_EFFECT => (1, 1, false),
        _ => (1, 1, true),
    };
    assert_eq!((records, effects, is_completed), expected, "{window}, transactional: {transactional}");
}

/// Longer than any record without an answer. The answers are longer than this.
const LONG: u32 = 200;

fn name_of(round: u64) -> String {
    format!("round {round}")
}

fn make_ledger(directory: &Path) {
    let ledger = "CREATE TABLE ledger (key TEXT NOT NULL, attempt INTEGER NOT NULL) STRICT";
    open_ledger(directory).execute_batch(&format!("PRAGMA journal_mode = WAL; {ledger}")).unwrap();
}

/// The ledger is in the store's own file.
fn open_ledger(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join("idem.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection
}

/// The attempts that had their effect, in order.
fn attempts(directory: &Path, round: u64) -> Vec<u32> {
    let connection = open_ledger(directory);
    let mut rows = connection.prepare("SELECT attempt FROM ledger WHERE key = ?1 ORDER BY rowid").unwrap();
    let rows = rows.query_map([name_of(round)], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A process that serves one request. Killed when it is dropped.
struct Provider {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Provider {
    fn start(directory: &Path, round: u64, window: &str, ahead: Duration, transactional: bool) -> Self {
        let mut command = command("provide", directory);
        command.env(KEY, name_of(round)).env(WINDOW, window).env(AHEAD, ahead.as_secs().to_string());
        command.env(TRANSACTIONAL, transactional.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Reads its output until the line `word`. Returns the answer that it printed before, if it did.
    fn read_until(&mut self, word: &str) -> Option<String> {
        let mut answer = None;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended before it printed {word:?}");
            match line.trim_end().split_once("answer ") {
                Some((_, given)) => answer = Some(given.to_owned()),
                None if line.trim_end() == word => return answer,
                None => panic!("it printed {line:?} before {word:?}"),
            }
        }
    }

    fn kill(self) {
        drop(self);
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        // Sends SIGKILL; that fails if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Such a process.
pub(crate) async fn provide(directory: &Path) {
    let variable = |name| std::env::var(name).unwrap();
    let (name, window, transactional) = (variable(KEY), variable(WINDOW), variable(TRANSACTIONAL) == "true");
    let ahead = Duration::from_secs(variable(AHEAD).parse().unwrap());
    let clock = Clock::from_fn(move || SystemTime::now() + ahead);
    let store =
        SqliteStore::open(directory.join("idem.db"), SqliteOptions::new().clock(clock)).await.unwrap();
    let in_flight = InFlightPolicy::Wait { timeout: LEASE / 2 };
    let engine = Engine::builder(store.clone()).lease(LEASE).in_flight(in_flight).build().unwrap();

    stop(&window, BEFORE_THE_RESERVATION);
    let answer = match engine.reserve(&key(&name), &payload()).await.unwrap() {
        Admission::Granted(reservation) => {
            stop(&window, AFTER_THE_RESERVATION);
            let (attempt, fence) = (reservation.attempt().number, reservation.attempt().fence);
            let answer = format!("{name}, attempt {attempt}, fence {fence}, {:>200}", "padding");
            let effect = {
                let name = name.clone();
                move |connection: &Connection| {
                    let insert = "INSERT INTO ledger (key, attempt) VALUES (?1, ?2)";
                    connection.execute(insert, (name, attempt))
                }
            };
            if transactional {
                let (window, response) = (window.clone(), StoredValue::bytes(answer.clone()));
                let done = store.complete_reservation(reservation, move |connection| {
                    let rows = effect(connection)?;
                    stop(&window, INSIDE_THE_TRANSACTION);
                    Ok::<_, rusqlite::Error>((rows, response.into()))
                });
                assert_eq!(done.await.unwrap(), TransactionOutcome::Completed(1));
            } else {
                effect(&open_ledger(directory)).unwrap();
                stop(&window, AFTER_THE_EFFECT);
                let done = reservation.complete(StoredValue::bytes(answer.clone())).await.unwrap();
                assert_eq!(done, CompleteOutcome::Completed);
            }
            answer
        }
        Admission::Replayed(response) => String::from_utf8(response.body.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    stop(&window, BEFORE_THE_ANSWER);
    say(&format!("answer {answer}"));
    stop(&window, AFTER_THE_ANSWER);
    say("end");
}

/// If this is the chosen point, prints that and waits to be killed.
fn stop(window: &str, here: &str) {
    if window == here {
        say(&format!("at {here}"));
        // Ends if the test itself has ended.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}
