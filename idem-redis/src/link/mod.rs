//! [`Link`]: the one way to send a command, whatever the servers are.
//!
//! | module | what it is | what it adds |
//! |---|---|---|
//! | `single` | one server: a multiplexed connection and what keeps it alive | bounds, timeouts, reconnection, silent links |
//! | `sentinel` | which server that is, where Sentinel decides it | follows failovers |
//! | `cluster` | one `single` for each master, and which key is where (`slots`) | redirections, slots that move, failovers |
//! | `borrowed` | a connection of the application | bounds and timeouts |
//!
//! `dial` makes connections, `backoff` spaces the attempts, and `failure` says what an error means.

mod backoff;
mod borrowed;
mod cluster;
mod dial;
mod failure;
mod route;
mod sentinel;
mod silence;
mod single;
mod slots;
#[cfg(test)]
mod tests;

pub(crate) use self::backoff::jitter;
pub use self::borrowed::Connection;
pub(crate) use self::cluster::Cluster;
pub(crate) use self::dial::Dialer;
pub(crate) use self::failure::{Failure, is_own_timeout};
pub(crate) use self::route::Link;
pub(crate) use self::single::{Finder, Single};
pub(crate) use self::slots::slot;
