//! [`Pace`]: whether a caller commits on its own thread.

use std::time::{Duration, Instant};

use tokio::task;

/// Whether callers commit on their own threads.
///
/// That saves a lone caller two wake-ups, some tens of microseconds. It must not be done where commits are long, since
/// it would hold up an executor's thread, and nothing is saved there: the flush is what takes the time. And it must not
/// be done where several callers write, since each would flush for itself where one flush is enough for all.
pub(crate) struct Pace {
    /// What a transaction takes, on average over the latest.
    commit: Duration,
    /// Who handed in the latest job, and when.
    latest: Option<(Option<task::Id>, Instant)>,
}

impl Pace {
    /// The longest commit that is done inline: about as long as an executor's thread may be held between two awaits.
    const LONGEST_INLINE: Duration = Duration::from_micros(500);
    /// A writer that comes so long after another is no competitor of it.
    const APART: Duration = Duration::from_millis(5);

    pub(crate) fn new() -> Self {
        // Until it is known better, commits are long.
        Self { commit: Self::LONGEST_INLINE * 2, latest: None }
    }

    pub(crate) fn allows_inline(&mut self) -> bool {
        let now = Instant::now();
        let caller = task::try_id();
        let latest = self.latest.replace((caller, now));
        let is_alone =
            latest.is_none_or(|(before, at)| before == caller || now.duration_since(at) > Self::APART);
        is_alone && self.commit <= Self::LONGEST_INLINE
    }

    /// What a transaction takes.
    pub(crate) fn commit(&self) -> Duration {
        self.commit
    }

    pub(crate) fn committed(&mut self, took: Duration) {
        self.commit = (self.commit * 7 + took) / 8;
    }
}
