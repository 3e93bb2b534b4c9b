//! [`Patience`]: how often an operation looks again when others are in its way.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// The first look again is at once: who was in the way has mostly just committed. The pauses after that double from
/// here, so that all of them together take less than a tenth of a second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LOOKS: u32 = 7;

/// Counts the looks of one operation.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    looks: u32,
}

impl Patience {
    /// Waits a little, a time that differs between callers. False: it is over.
    pub(crate) async fn wait(&mut self) -> bool {
        self.looks += 1;
        if self.looks > LOOKS {
            return false;
        }
        if self.looks > 1 {
            let pause = FIRST_PAUSE * 2_u32.pow(self.looks - 2);
            // From a half to the whole. The keys of each hasher are others, which is random enough for this.
            let share = u32::try_from(RandomState::new().hash_one(()) % 512).unwrap_or(0);
            tokio::time::sleep(pause / 1024 * (512 + share)).await;
        }
        true
    }
}
