//! [`Cluster`]: the links to all masters of a Redis Cluster, and which of them a key is on.
//!
//! Each node has a [`Single`], with everything that keeps that alive. This module knows which node serves which slot,
//! follows the redirections of slots that move, and looks the slots up anew when a node redirects, cannot be reached or is
//! silent. The client library's own Cluster connection is not used for this: it asks a silent node again and again on the
//! same connection, never looks the slots up because of it (so that it does not find the replica that was promoted in
//! place of a frozen master), sends again what may have been carried out, and clones each command on its way through a
//! task of its own.
//!
//! - INV-1: a command is sent again only after an answer that says that it was not carried out.
//! - INV-2: what may have been carried out is reported at once; the slots are looked up beside it.
//! - INV-3: of views that differ the one that most nodes share counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use idem_core::Effect;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::{Backoff, jitter};
use super::dial::Dialer;
use super::failure::Failure;
use super::single::{Finder, Single};
use super::slots::{SLOTS, View, slot_of, view};
use crate::Options;
use crate::address::{Login, Place};

/// How many nodes are asked for the slots at once.
const ASKED_AT_ONCE: usize = 9;
/// How long the last ones may take once the first has answered.
const GRACE: Duration = Duration::from_millis(200);
/// How long a look at the slots is good enough for the next one who asks for it.
const FRESH: Duration = Duration::from_millis(100);

/// The link to a Cluster. Clones share it.
#[derive(Clone)]
pub(crate) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    seeds: Vec<Place>,
    login: Login,
    dialer: Dialer,
    options: Options,
    map: RwLock<Arc<Map>>,
    /// When the slots were last looked up, whether that was of use or not. Whoever holds it is looking.
    looked: tokio::sync::Mutex<Option<Instant>>,
    /// How often a command was sent to another node than the map said, for slots with the same last digits.
    detours: [AtomicU64; 256],
}

/// Who serves what.
struct Map {
    /// For each slot its master among `masters`, or `NOBODY`.
    owners: Arc<[u16]>,
    masters: Arc<[(Place, Single)]>,
    /// Nodes that are known from redirections only.
    others: HashMap<Place, Single>,
    replicas: Arc<[Place]>,
}

const NOBODY: u16 = u16::MAX;

impl Cluster {
    /// Looks the slots up. At least one node has to answer.
    pub(crate) async fn connect(
        seeds: Vec<Place>,
        login: Login,
        dialer: Dialer,
        options: &Options,
    ) -> RedisResult<Self> {
        let map = Map {
            owners: vec![NOBODY; SLOTS].into(),
            masters: Arc::from([]),
            others: HashMap::new(),
            replicas: Arc::from([]),
        };
        let cluster = Self {
            shared: Arc::new(Shared {
                seeds,
                login,
                dialer,
                options: options.clone(),
                map: RwLock::new(Arc::new(map)),
                looked: tokio::sync::Mutex::new(None),
                detours: [const { AtomicU64::new(0) }; 256],
            }),
        };
        cluster.shared.look().await?;
        Ok(cluster)
    }

    /// One command, to the node that serves its key.
    pub(crate) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let began = Instant::now();
        let slot = slot_of(command).unwrap_or_default();
        let failure = match self.node(slot) {
            Some((_, node)) => match node.command(command).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            },
            None => nobody(slot),
        };
        // Boxed, so that the rare way does not make the future of the common one larger.
        let deadline = began + self.shared.options.command_timeout;
        Box::pin(self.detour(command, slot, failure, deadline)).await
    }

    /// The node that serves a slot, and the link to it.
    pub(crate) fn node(&self, slot: u16) -> Option<(Place, Single)> {
        let map = self.shared.map.read().unwrap_or_else(PoisonError::into_inner);
        map.masters.get(usize::from(map.owners[usize::from(slot)])).cloned()
    }

    /// The same, and if nobody is known to serve it the slots are looked up.
    pub(crate) async fn find(&self, slot: u16) -> Result<(Place, Single), Failure> {
        if let Some(found) = self.node(slot) {
            return Ok(found);
        }
        let _ = timeout_at(Instant::now() + self.shared.options.command_timeout, self.shared.look()).await;
        self.node(slot).ok_or_else(|| nobody(slot))
    }

    /// The links to all masters.
    pub(crate) fn masters(&self) -> Arc<[(Place, Single)]> {
        Arc::clone(&self.shared.map().masters)
    }

    /// How often a command went to another node than the one that [`node`](Self::node) names for the slot.
    pub(crate) fn detours(&self, slot: u16) -> u64 {
        self.shared.detours(slot).load(Ordering::Acquire)
    }

    /// What to do after a node has not carried a command out (INV-1), until the time of a command is up.
    async fn detour(
        &self,
        command: &Cmd,
        slot: u16,
        mut failure: Failure,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let mut pause = Backoff::new();
        let mut redirections = 0;
        loop {
            let way = self.way(&failure);
            if let Way::Moved(_) | Way::Ask(_) = way {
                redirections += 1;
                // Two in a row are usual. More are nodes that each call the other the slot's master, until one has heard
                // the news.
                if redirections > 2 && !paused(&mut pause, deadline).await {
                    break;
                }
            }
            let told = match way {
                Way::None => break,
                Way::Moved(place) => {
                    self.shared.detours(slot).fetch_add(1, Ordering::AcqRel);
                    self.shared.link_to(&place).command(command).await
                }
                Way::Ask(place) => {
                    self.shared.detours(slot).fetch_add(1, Ordering::AcqRel);
                    self.ask(&place, command).await
                }
                way => {
                    if let Way::Look = way {
                        let owner = |cluster: &Self| cluster.node(slot).map(|(place, _)| place);
                        let before = owner(self);
                        let _ = timeout_at(deadline, self.shared.look()).await;
                        // If it still is the node that cannot be reached, its caller should hear that now.
                        if before == owner(self) && failure.error.kind() == ErrorKind::Io {
                            break;
                        }
                    }
                    if !paused(&mut pause, deadline).await {
                        break;
                    }
                    match self.node(slot) {
                        Some((_, node)) => node.command(command).await,
                        None => Err(nobody(slot)),
                    }
                }
            };
            match told {
                Ok(value) => return Ok(value),
                Err(next) => failure = next,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        if failure.effect == Effect::Unknown || failure.error.kind() == ErrorKind::Io {
            self.look_aside();
        }
        Err(failure)
    }

    /// How to go on after a failure.
    fn way(&self, failure: &Failure) -> Way {
        if failure.effect == Effect::Unknown {
            return Way::None; // INV-2
        }
        // A node that leaves its host out means itself, and then all have the same.
        let host = self.shared.seeds.first().map_or("", Place::host);
        let told = failure.error.redirect_node().and_then(|(place, _)| Place::told(place, host));
        let ErrorKind::Server(kind) = failure.error.kind() else {
            return match failure.error.kind() {
                ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => Way::Look,
                _ => Way::None,
            };
        };
        match kind {
            ServerErrorKind::Moved => {
                self.look_aside();
                told.map_or(Way::Look, Way::Moved)
            }
            ServerErrorKind::Ask => told.map_or(Way::Pause, Way::Ask),
            ServerErrorKind::TryAgain => Way::Pause,
            ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading => {
                self.look_aside();
                Way::Pause
            }
            ServerErrorKind::ReadOnly => Way::Look,
            _ => Way::None,
        }
    }

    /// Sends a command to a node that is about to get the key's slot. One round trip.
    async fn ask(&self, place: &Place, command: &Cmd) -> Result<Value, Failure> {
        let mut asking = redis::pipe();
        asking.cmd("ASKING").add_command(command.clone());
        let mut told = self.shared.link_to(place).pipeline(&asking).await?.into_iter().skip(1);
        match told.next() {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(Failure::not_applied(error)),
            None => Err(Failure::unknown((ErrorKind::UnexpectedReturnType, "ASKING lost an answer").into())),
        }
    }

    /// Looks the slots up, and nobody waits for it.
    fn look_aside(&self) {
        let shared = Arc::clone(&self.shared);
        // Whoever is looking looks for everybody.
        if shared.looked.try_lock().is_ok() {
            tokio::spawn(async move { shared.look().await });
        }
    }
}

/// Where a command goes next.
enum Way {
    /// Nowhere: its caller is told.
    None,
    /// To the same node, after a pause.
    Pause,
    /// To the node that serves the slot, after that was looked up.
    Look,
    Moved(Place),
    Ask(Place),
}

/// Waits before a command is sent again, unless its time would be up then.
async fn paused(pause: &mut Backoff, deadline: Instant) -> bool {
    let pause = pause.next();
    let is_in_time = Instant::now() + pause < deadline;
    if is_in_time {
        sleep(pause).await;
    }
    is_in_time
}

fn nobody(slot: u16) -> Failure {
    Failure::not_applied(
        (ErrorKind::ClusterConnectionNotFound, "no node serves the key's slot", slot.to_string()).into(),
    )
}

impl Shared {
    fn detours(&self, slot: u16) -> &AtomicU64 {
        &self.detours[usize::from(slot) % self.detours.len()]
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The link to a node that was named in a redirection.
    fn link_to(&self, place: &Place) -> Single {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = map.link(place) {
            return node.clone();
        }
        let node = self.new_link(place);
        let mut others = map.others.clone();
        others.insert(place.clone(), node.clone());
        *map = Arc::new(Map {
            owners: Arc::clone(&map.owners),
            masters: Arc::clone(&map.masters),
            others,
            replicas: Arc::clone(&map.replicas),
        });
        node
    }

    fn new_link(&self, place: &Place) -> Single {
        let finder = Finder::Node { place: place.clone(), login: self.login.clone() };
        Single::lazy(finder, self.dialer.clone(), &self.options)
    }

    /// Looks the slots up, unless somebody just has.
    async fn look(&self) -> RedisResult<()> {
        let asked = Instant::now();
        let mut looked = self.looked.lock().await;
        // Somebody else did while we waited, or right before.
        if looked.is_some_and(|at| at + FRESH >= asked) {
            return Ok(());
        }
        let found = self.ask_around().await;
        *looked = Some(Instant::now());
        match found {
            Ok(view) => {
                self.install(&view);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(name: "idem_redis.cluster.unknown", error = %error, "no node tells who serves which slot");
                Err(error)
            }
        }
    }

    /// Asks several nodes at once, and takes the view that most of them share (INV-3).
    async fn ask_around(&self) -> RedisResult<View> {
        let map = self.map();
        let masters = map.masters.iter().map(|(place, _)| place);
        let mut known: Vec<_> = masters.chain(&*map.replicas).cloned().collect();
        // A different choice each time, so that a few dead ones do not stand in the way for ever.
        let random = usize::try_from(jitter(Duration::from_nanos(1 << 30)).as_nanos()).unwrap_or_default();
        if !known.is_empty() {
            let by = random % known.len();
            known.rotate_left(by);
        }
        known.truncate(ASKED_AT_ONCE);
        known.extend(self.seeds.iter().filter(|seed| !known.contains(seed)).cloned().collect::<Vec<_>>());

        let mut asked = JoinSet::new();
        for place in known {
            asked.spawn(ask(self.dialer.clone(), place, self.login.clone()));
        }
        let mut views: Vec<(View, usize)> = Vec::new();
        let mut failure = None;
        let mut deadline = Instant::now() + self.dialer.connect_timeout() * 2;
        while let Ok(Some(told)) = timeout_at(deadline, asked.join_next()).await {
            match told {
                Ok(Ok(view)) => {
                    deadline = deadline.min(Instant::now() + GRACE);
                    match views.iter_mut().find(|(known, _)| known.ranges == view.ranges) {
                        Some((_, voices)) => *voices += 1,
                        None => views.push((view, 1)),
                    }
                }
                Ok(Err(error)) => failure = Some(error),
                Err(gone) => failure = Some(std::io::Error::other(gone).into()),
            }
        }
        match views.into_iter().max_by_key(|(_, voices)| *voices) {
            Some((view, _)) => Ok(view),
            None => Err(failure.unwrap_or_else(|| (ErrorKind::Io, "no node of the Cluster answers").into())),
        }
    }

    fn install(&self, view: &View) {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut owners = vec![NOBODY; SLOTS];
        let mut masters: Vec<(Place, Single)> = Vec::new();
        for range in &view.ranges {
            let owner = masters.iter().position(|(place, _)| *place == range.master).unwrap_or_else(|| {
                let node = map.link(&range.master).cloned().unwrap_or_else(|| self.new_link(&range.master));
                masters.push((range.master.clone(), node));
                masters.len() - 1
            });
            let owner = u16::try_from(owner).unwrap_or(NOBODY);
            owners[usize::from(range.first)..=usize::from(range.last)].fill(owner);
        }
        if masters.iter().map(|(place, _)| place).ne(map.masters.iter().map(|(place, _)| place)) {
            let masters: Vec<_> = masters.iter().map(|(place, _)| place.to_string()).collect();
            tracing::info!(name: "idem_redis.cluster.masters", masters = ?masters, "the Cluster has other masters");
        }
        *map = Arc::new(Map {
            owners: owners.into(),
            masters: masters.into(),
            // Whoever is under way to one of them has its link.
            others: HashMap::new(),
            replicas: view.replicas.clone().into(),
        });
    }
}

impl Map {
    fn link(&self, place: &Place) -> Option<&Single> {
        let master = self.masters.iter().find(|(master, _)| master == place).map(|(_, node)| node);
        master.or_else(|| self.others.get(place))
    }
}

async fn ask(dialer: Dialer, place: Place, login: Login) -> RedisResult<View> {
    let (mut connection, driver) = dialer.dial(&place, &login).await?;
    let mut question = redis::cmd("CLUSTER");
    question.arg("SLOTS");
    tokio::select! {
        told = connection.send_packed_command(&question) => view(told?, &place),
        () = driver => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
    }
}
