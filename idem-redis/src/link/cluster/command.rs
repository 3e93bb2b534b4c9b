//! Sends a command to the node that serves its key, and elsewhere if that node does not carry it out.

use std::sync::Arc;
use std::time::Duration;

use idem_core::Effect;
use idem_core::backend::Backoff;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::slots::slot_of;
use super::state::{Cluster, unserved};
use crate::address::{Endpoint, Login};
use crate::error::Failure;
use crate::link::dial::Dialer;
use crate::link::single::Single;
use crate::options::RedisOptions;

/// The pauses before a command is sent again.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Where a command goes next.
enum NextHop {
    /// Nowhere: the caller gets the failure.
    None,
    /// To the same node, after a pause.
    Same,
    /// To the node that serves the slot, after a lookup.
    Lookup,
    /// To the node that serves the slot now.
    Moved(Endpoint),
    /// To a node that is about to get the slot.
    Ask(Endpoint),
}

impl Cluster {
    /// Looks the slots up. At least one node has to answer.
    pub(crate) async fn connect(
        seeds: Vec<Endpoint>,
        login: Login,
        dialer: Dialer,
        options: &RedisOptions,
    ) -> RedisResult<Arc<Self>> {
        let cluster = Self::new(seeds, login, dialer, options);
        cluster.refresh().await?;
        Ok(Arc::new(cluster))
    }

    /// One command, to the node that serves its key.
    pub(crate) async fn command(self: &Arc<Self>, command: &Cmd) -> Result<Value, Failure> {
        let began = Instant::now();
        let slot = slot_of(command).unwrap_or_default();
        let failure = match self.node(slot) {
            Some((_, node)) => match node.command(command).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            },
            None => unserved(slot),
        };
        // Boxed, so that the rare case does not make the future of the common one larger.
        let deadline = began + self.options.command_timeout;
        Box::pin(redirect(self, command, slot, failure, deadline)).await
    }

    /// The node that serves a slot, and the link to it. If none is known, the slots are looked up.
    pub(crate) async fn find(&self, slot: u16) -> Result<(Endpoint, Single), Failure> {
        if let Some(found) = self.node(slot) {
            return Ok(found);
        }
        let _ = timeout_at(Instant::now() + self.options.command_timeout, self.refresh()).await;
        self.node(slot).ok_or_else(|| unserved(slot))
    }
}

/// Sends a command again that a node has not carried out (INV-1), until its time is over.
async fn redirect(
    cluster: &Arc<Cluster>,
    command: &Cmd,
    slot: u16,
    mut failure: Failure,
    deadline: Instant,
) -> Result<Value, Failure> {
    let mut backoff = BACKOFF;
    let mut redirections = 0;
    loop {
        let hop = next_hop(cluster, &failure);
        if let NextHop::Moved(_) | NextHop::Ask(_) = hop {
            redirections += 1;
            // Two in a row are normal. With more, two nodes each call the other the slot's master, until one of them
            // hears the news.
            if redirections > 2 && !paused(&mut backoff, deadline).await {
                break;
            }
        }
        let answer = match hop {
            NextHop::None => break,
            NextHop::Moved(endpoint) => cluster.redirected(slot, &endpoint).command(command).await,
            NextHop::Ask(endpoint) => ask(cluster, slot, &endpoint, command).await,
            NextHop::Same | NextHop::Lookup => {
                if let NextHop::Lookup = hop {
                    let owner = || cluster.node(slot).map(|(endpoint, _)| endpoint);
                    let before = owner();
                    let _ = timeout_at(deadline, cluster.refresh()).await;
                    // If the node that cannot be reached still serves the slot, the caller gets the failure now.
                    if before == owner() && failure.error.kind() == ErrorKind::Io {
                        break;
                    }
                }
                if !paused(&mut backoff, deadline).await {
                    break;
                }
                match cluster.node(slot) {
                    Some((_, node)) => node.command(command).await,
                    None => Err(unserved(slot)),
                }
            }
        };
        match answer {
            Ok(value) => return Ok(value),
            Err(next) => failure = next,
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    if failure.effect == Effect::Unknown || failure.error.kind() == ErrorKind::Io {
        cluster.refresh_in_background();
    }
    Err(failure)
}

fn next_hop(cluster: &Arc<Cluster>, failure: &Failure) -> NextHop {
    if failure.effect == Effect::Unknown {
        return NextHop::None; // INV-2
    }
    let kind = match failure.error.kind() {
        ErrorKind::Server(kind) => kind,
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => return NextHop::Lookup,
        _ => return NextHop::None,
    };
    let named = || {
        let (endpoint, _) = failure.error.redirect_node()?;
        Endpoint::from_server(endpoint, cluster.seed_host())
    };
    match kind {
        ServerErrorKind::Moved => {
            cluster.refresh_in_background();
            named().map_or(NextHop::Lookup, NextHop::Moved)
        }
        ServerErrorKind::Ask => named().map_or(NextHop::Same, NextHop::Ask),
        ServerErrorKind::TryAgain => NextHop::Same,
        ServerErrorKind::ClusterDown | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading => {
            cluster.refresh_in_background();
            NextHop::Same
        }
        ServerErrorKind::ReadOnly => NextHop::Lookup,
        _ => NextHop::None,
    }
}

/// Sends a command to a node that is about to get the key's slot, in one round trip.
async fn ask(cluster: &Cluster, slot: u16, endpoint: &Endpoint, command: &Cmd) -> Result<Value, Failure> {
    let mut asking = redis::pipe();
    asking.cmd("ASKING").add_command(command.clone());
    let mut answers = cluster.redirected(slot, endpoint).pipeline(&asking).await?.into_iter().skip(1);
    match answers.next() {
        Some(answer) => answer.map_err(Failure::not_applied),
        None => {
            Err(Failure::unknown((ErrorKind::UnexpectedReturnType, "the answer behind ASKING is missing")))
        }
    }
}

/// Waits before a command is sent again. Returns `false`, without waiting, if its time would be over then.
async fn paused(backoff: &mut Backoff, deadline: Instant) -> bool {
    let pause = backoff.next_pause();
    let is_in_time = Instant::now() + pause < deadline;
    if is_in_time {
        sleep(pause).await;
    }
    is_in_time
}
