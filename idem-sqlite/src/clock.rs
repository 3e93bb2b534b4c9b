//! [`Clock`]: the time that decides leases and expiry.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use idem_core::store::Timestamp;

/// The clock of a store. It decides when leases end and when records expire.
///
/// All processes that share a file must use the same clock. The default is the machine's clock. A test can replace it
/// and move the time itself:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::{Duration, SystemTime};
/// use idem_sqlite::{Clock, SqliteOptions};
///
/// let time = Arc::new(Mutex::new(SystemTime::now()));
/// let options = SqliteOptions::new().clock(Clock::from_fn({
///     let time = Arc::clone(&time);
///     move || *time.lock().unwrap()
/// }));
/// *time.lock().unwrap() += Duration::from_secs(3600);
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// A clock that calls the function for the current time.
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time in whole microseconds since the Unix epoch; 0 if it is before the epoch.
    pub(crate) fn now(&self) -> Timestamp {
        let since_epoch = (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
