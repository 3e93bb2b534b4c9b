//! [`InlineCommit`]: decides whether a caller commits on its own thread.

use std::time::{Duration, Instant};

use tokio::task;

/// Decides whether a caller commits on its own thread.
///
/// An inline commit saves a lone caller two thread switches, which take some tens of microseconds. It is allowed only
/// where commits are short, because a long one blocks a thread of the executor, and its flush takes far longer than the
/// switches. It is allowed only for one caller at a time, because several callers can share one flush.
pub(crate) struct InlineCommit {
    /// The moving average of a commit's time.
    average: Duration,
    latest: Option<Submission>,
}

struct Submission {
    task: Option<task::Id>,
    at: Instant,
}

impl InlineCommit {
    /// The longest commit that is done inline: a thread of the executor may be blocked for about this long.
    const LONGEST: Duration = Duration::from_micros(500);
    /// Two callers this far apart do not compete.
    const APART: Duration = Duration::from_millis(5);

    /// Commits count as long until some were measured.
    pub(crate) fn new() -> Self {
        Self { average: Self::LONGEST * 2, latest: None }
    }

    /// Whether the current task, which submits an operation now, may commit it inline.
    pub(crate) fn allows(&mut self) -> bool {
        let (task, at) = (task::try_id(), Instant::now());
        let latest = self.latest.replace(Submission { task, at });
        let is_alone =
            latest.is_none_or(|latest| latest.task == task || at.duration_since(latest.at) > Self::APART);
        is_alone && self.average <= Self::LONGEST
    }

    /// The time that a commit takes.
    pub(crate) fn average(&self) -> Duration {
        self.average
    }

    /// Takes note of a commit that took this long.
    pub(crate) fn record(&mut self, took: Duration) {
        self.average = (self.average * 7 + took) / 8;
    }
}
