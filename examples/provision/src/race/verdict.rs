//! Whether each key ran exactly once, by SQL, and whether everybody was given the same answer.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use http::StatusCode;
use rusqlite::Connection;

use crate::failure::Failure;
use crate::race::callers::{Asked, Plan};

/// What the race has shown.
pub(crate) struct Verdict {
    keys: usize,
    requests: usize,
    /// Rows of the ledger.
    executions: u64,
    /// Keys without exactly one row.
    wrong_keys: usize,
    refused: u64,
    replayed: usize,
    /// Final answers that are not a 201, or have other bytes than the first one of their key.
    wrong_answers: usize,
    /// The shortest first.
    latencies: Vec<Duration>,
}

impl Verdict {
    pub(crate) fn of(plan: &Plan, asked: &[Asked], ledger: &Path) -> Result<Self, Failure> {
        let rows = rows_per_key(ledger)?;
        let mut first = HashMap::new();
        let mut wrong_answers = 0;
        for asked in asked {
            let is_first = first.entry(asked.key).or_insert(&asked.body) == &&asked.body;
            wrong_answers += usize::from(asked.status != StatusCode::CREATED || !is_first);
        }
        let mut latencies: Vec<_> = asked.iter().map(|asked| asked.latency).collect();
        latencies.sort_unstable();
        Ok(Self {
            keys: plan.keys.len(),
            requests: asked.len(),
            executions: rows.values().sum(),
            wrong_keys: plan.keys.iter().filter(|key| rows.get(*key) != Some(&1)).count(),
            refused: asked.iter().map(|asked| u64::from(asked.refused)).sum(),
            replayed: asked.iter().filter(|asked| asked.is_replay).count(),
            wrong_answers,
            latencies,
        })
    }

    pub(crate) fn is_right(&self) -> bool {
        self.wrong_keys == 0 && self.wrong_answers == 0 && self.executions == self.keys as u64
    }

    pub(crate) fn table(&self, store: &str, duration: Duration) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["", store, ""]);
        let rows = [
            ("keys", self.keys.to_string(), "each sent many times at the same instant"),
            ("requests", self.requests.to_string(), "over real HTTP, a connection for each duplicate"),
            ("executions", self.executions.to_string(), "rows of the ledger, counted by SQL"),
            ("wrong keys", self.wrong_keys.to_string(), "without exactly one row"),
            ("refused", self.refused.to_string(), "answers 409, still in progress; each asked again"),
            ("replayed", self.replayed.to_string(), "given the answer of another one's run"),
            ("wrong answers", self.wrong_answers.to_string(), "other bytes than their key's first answer"),
            ("p50", millis(self.percentile(50)), "of the final requests"),
            ("p99", millis(self.percentile(99)), ""),
            ("duration", millis(duration), ""),
        ];
        for (what, figure, remark) in rows {
            table.add_row([what, &figure, remark]);
        }
        if let Some(figures) = table.column_mut(1) {
            figures.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn percentile(&self, percent: usize) -> Duration {
        let index = (self.latencies.len() * percent).div_ceil(100).saturating_sub(1);
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_right() {
            return write!(
                f,
                "Right: each of the {} keys ran once, and all of its requests were given the same answer.",
                self.keys
            );
        }
        write!(
            f,
            "Wrong: {} of {} keys did not run exactly once, and {} answers differ.",
            self.wrong_keys, self.keys, self.wrong_answers
        )
    }
}

/// How many rows each key has, of those that have any: only what was committed.
fn rows_per_key(ledger: &Path) -> Result<HashMap<String, u64>, Failure> {
    let connection = Connection::open(ledger)?;
    let mut statement = connection.prepare(include_str!("../sql/sqlite/rows_per_key.sql"))?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
