//! [`Harness`]: a backend, described to the suite; and [`Instance`]: one of its stores.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::Record;
use idem_core::{FencingToken, Key, ReservationStore};

/// A backend, described to the suite: how to make a fresh store, how its time passes, and what it cannot do.
///
/// Only [`fresh`](Self::fresh) and [`clock`](Self::clock) are required. With the defaults of the other methods, the suite
/// ignores the cases that need them.
///
/// ```
/// use idem_conformance::{Clock, Harness, InProcess, Instance, Reference};
///
/// struct ReferenceHarness;
///
/// #[async_trait::async_trait]
/// impl Harness for ReferenceHarness {
///     async fn fresh(&self) -> Box<dyn Instance> {
///         Box::new(InProcess::new(Reference::new()))
///     }
///
///     fn clock(&self) -> Clock {
///         Clock::Tokio
///     }
/// }
/// ```
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// Makes a new, empty store for one case. Whatever it needs (a server, a directory) goes when the instance is dropped.
    async fn fresh(&self) -> Box<dyn Instance>;

    /// What moves the store's clock.
    fn clock(&self) -> Clock;

    /// The span that cases let pass if the clock cannot be moved. A short one is safe: no case expects anything to happen
    /// *within* it.
    fn short_span(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// The longest answer that the store accepts, in bytes; `None` if it has no limit.
    fn max_answer_bytes(&self) -> Option<usize> {
        None
    }

    /// Whether expired records vanish without a sweep, as in a server with expiring keys.
    fn removes_by_itself(&self) -> bool {
        false
    }

    /// Why the backend cannot run the cases that need `ability`; `None` if it can. Then implement the methods that the
    /// ability names.
    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        Some(ability.default_reason())
    }

    /// A location for a new store ([`Ability::OutlivesProcess`]).
    fn new_location(&self) -> String {
        unsupported(Ability::OutlivesProcess)
    }

    /// Opens the store at a location, and makes it if it does not exist ([`Ability::OutlivesProcess`]).
    ///
    /// The suite also calls this in child processes, several of which may have the store open. If [`Instance::advance`]
    /// moves the clock, it must move it for all of them.
    async fn open(&self, _location: &str) -> Box<dyn Instance> {
        unsupported(Ability::OutlivesProcess)
    }
}

/// One store, with handles to it and hooks into its data. [`InProcess`] is the simplest.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    /// The store.
    fn store(&self) -> Arc<dyn ReservationStore>;

    /// A new handle to the same data that shares as little as possible with [`store`](Self::store): its own connection, or
    /// its own opening of the file.
    async fn second_handle(&self) -> Arc<dyn ReservationStore>;

    /// Lets time pass for all handles, and returns when at least `by` has passed on the store's clock.
    ///
    /// The default waits for a little longer than `by`, because of clocks that count milliseconds. The suite does not call
    /// this if the store follows tokio's clock and that is paused.
    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by + Duration::from_millis(5)).await;
    }

    /// Changes the fence of the key's record in the stored data ([`Ability::SetFence`]).
    async fn set_fence(&self, _key: &Key, _fence: FencingToken) {
        unsupported(Ability::SetFence)
    }

    /// Writes a record of a version that this release does not know for the key ([`Ability::LaterVersion`]).
    async fn write_later_version(&self, _key: &Key) {
        unsupported(Ability::LaterVersion)
    }

    /// Writes the golden records of every released version, byte for byte, and returns what the store must read
    /// ([`Ability::GoldenRecords`]).
    async fn write_golden(&self) -> Vec<(Key, Record)> {
        unsupported(Ability::GoldenRecords)
    }

    /// Makes the server forget its cached scripts ([`Ability::FlushScripts`]).
    async fn flush_scripts(&self) {
        unsupported(Ability::FlushScripts)
    }

    /// Kills the server as a power cut would, and starts it again on the same data ([`Ability::KillServer`]).
    async fn kill_server(&self) {
        unsupported(Ability::KillServer)
    }
}

/// What moves a store's clock, and so how the suite lets a lease end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The store follows tokio's clock. The suite pauses that clock and moves it. In cases with several threads it runs in
    /// real time.
    Tokio,
    /// The clock stands still until [`Instance::advance`] moves it.
    Manual,
    /// The clock runs, and [`Instance::advance`] moves it forward at once: by an offset, or by making every record older.
    Adjustable,
    /// The clock cannot be moved. Cases use short leases and wait. The suite ignores cases that look at a record shortly
    /// before its time is up, because a slow machine would decide them.
    Real,
}

/// Something that a backend may be unable to do, or its harness may not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// The fence of a stored record can be changed: [`Instance::set_fence`].
    SetFence,
    /// A record of a later version can be written: [`Instance::write_later_version`].
    LaterVersion,
    /// There are records of earlier releases: [`Instance::write_golden`].
    GoldenRecords,
    /// The data outlives the process: [`Harness::new_location`] and [`Harness::open`].
    OutlivesProcess,
    /// There is a server that keeps acknowledged writes when it is killed: [`Instance::kill_server`].
    KillServer,
    /// There is a server that caches scripts: [`Instance::flush_scripts`].
    FlushScripts,
}

impl Ability {
    fn default_reason(self) -> &'static str {
        match self {
            Self::SetFence => "this harness cannot change a stored fence",
            Self::LaterVersion => "this harness cannot write a record of a later version",
            Self::GoldenRecords => "this backend has no records of earlier versions",
            Self::OutlivesProcess => "this store's data does not outlive its process",
            Self::KillServer => "this backend has no server that keeps its data when it is killed",
            Self::FlushScripts => "this backend has no server that caches scripts",
        }
    }
}

/// The instance of a store in this process. Both handles are the same store, and there are no hooks.
#[derive(Clone, Debug)]
pub struct InProcess<S>(Arc<S>);

impl<S> InProcess<S> {
    /// The instance of this store.
    pub fn new(store: S) -> Self {
        Self(Arc::new(store))
    }
}

#[async_trait]
impl<S: ReservationStore> Instance for InProcess<S> {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.0.clone()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        self.0.clone()
    }
}

fn unsupported(ability: Ability) -> ! {
    panic!("the harness has {ability:?}, but does not implement its methods")
}
