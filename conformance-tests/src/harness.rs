//! [`Harness`]: what a backend tells the suite about itself, and [`Instance`]: one store of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use idem_core::store::Record;
use idem_core::{FencingToken, Key, ReservationStore};

/// A backend, as the suite sees it: where fresh stores come from, how time passes, and what it cannot do.
///
/// Only [`fresh`](Self::fresh) and [`clock`](Self::clock) have to be written; everything else has a default that
/// leaves the matching cases out, *ignored* with the reason shown.
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
    /// A new, empty store, which no other case sees. What it needs (a server, a directory) lives as long as the
    /// instance and is gone when that is dropped.
    async fn fresh(&self) -> Box<dyn Instance>;

    /// What moves the store's clock.
    fn clock(&self) -> Clock;

    /// The span that cases wait out where the clock cannot be moved. No case fails because it is short: nothing is
    /// expected to happen *within* it.
    fn short_span(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// The longest answer that the store takes; `None` if it has no limit of its own.
    fn max_answer_bytes(&self) -> Option<usize> {
        None
    }

    /// Whether expired records vanish without a sweep, as they do where the server has times to live.
    fn removes_by_itself(&self) -> bool {
        false
    }

    /// Why the backend cannot take part in the cases that need `ability`; `None` if it can, and then the methods that
    /// the ability names are implemented.
    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        Some(ability.default_reason())
    }

    /// A place for a store that nobody has opened yet ([`Ability::OutlivesProcess`]).
    fn new_location(&self) -> String {
        unsupported(Ability::OutlivesProcess)
    }

    /// Opens the store at a place, and makes it if it is not there yet. Also called in child processes, several of which
    /// may have it open: where [`Instance::advance`] moves the clock, it has to move it for all of them
    /// ([`Ability::OutlivesProcess`]).
    async fn open(&self, _location: &str) -> Box<dyn Instance> {
        unsupported(Ability::OutlivesProcess)
    }
}

/// One store, with the handles to it and the hooks that reach behind it. [`InProcess`] is the simplest.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    /// The store.
    fn store(&self) -> Arc<dyn ReservationStore>;

    /// A new handle to the same data that shares as little as possible with [`store`](Self::store): a connection of
    /// its own, another opening of the file.
    async fn second_handle(&self) -> Arc<dyn ReservationStore>;

    /// Lets time pass for the store, for all handles, and returns when at least `by` has passed on its clock. The
    /// default really waits, a little longer than asked, for clocks that count milliseconds. Not called where the store
    /// follows tokio's clock and that is paused.
    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by + Duration::from_millis(5)).await;
    }

    /// Changes the fence of the key's record behind the store's back ([`Ability::SetFence`]).
    async fn set_fence(&self, _key: &Key, _fence: FencingToken) {
        unsupported(Ability::SetFence)
    }

    /// Writes a record of a version that this release does not know, as the key's record ([`Ability::LaterVersion`]).
    async fn write_later_version(&self, _key: &Key) {
        unsupported(Ability::LaterVersion)
    }

    /// Writes the golden records of every released version, byte for byte, and tells what they are to be read as
    /// ([`Ability::GoldenRecords`]).
    async fn write_golden(&self) -> Vec<(Key, Record)> {
        unsupported(Ability::GoldenRecords)
    }

    /// Lets the server forget its cached scripts ([`Ability::FlushScripts`]).
    async fn flush_scripts(&self) {
        unsupported(Ability::FlushScripts)
    }

    /// Kills the server as a power cut would, and starts it again on the same data ([`Ability::KillServer`]).
    async fn kill_server(&self) {
        unsupported(Ability::KillServer)
    }
}

/// What moves a store's clock. It decides how the suite lets a lease run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The store follows tokio's clock. The suite pauses it and moves it itself, except in the cases that need
    /// threads: there it runs in real time.
    Tokio,
    /// It stands still until [`Instance::advance`] moves it.
    Manual,
    /// It runs, and [`Instance::advance`] moves it on at once: by an offset, or by making every stored record older.
    Adjustable,
    /// It cannot be moved. The cases use short leases and really wait, and those that look at a record shortly before
    /// its time is up are ignored, since a slow machine would decide them.
    Real,
}

/// Something that a backend may be unable to do, or that its harness does not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ability {
    /// A stored record's fence can be changed from outside: [`Instance::set_fence`].
    SetFence,
    /// A record of a later version can be written: [`Instance::write_later_version`].
    LaterVersion,
    /// There are records written by earlier releases: [`Instance::write_golden`].
    GoldenRecords,
    /// Its data outlives the process: [`Harness::new_location`] and [`Harness::open`].
    OutlivesProcess,
    /// It has a server that keeps acknowledged writes when it is killed: [`Instance::kill_server`].
    KillServer,
    /// Its server caches scripts: [`Instance::flush_scripts`].
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

/// The instance of a store that lives in this process: both handles are the same store, and it has no hooks.
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
    panic!("the harness says that it has {ability:?}, and does not implement what that names")
}
