//! [`Cluster`]: the links to all masters of a Redis Cluster.
//!
//! Each node has a [`Single`](super::single::Single). This module knows which node serves which slot, follows the redirections of slots that move,
//! and looks the slots up again when a node redirects, cannot be reached or stops answering. The client library's own
//! Cluster connection is not used. It asks a node that stopped answering again and again on the same connection, never
//! looks the slots up because of it (so it does not find the replica that was promoted in place of a frozen master),
//! resends commands that may have been carried out, and clones each command on its way through a task of its own.
//!
//! - INV-1: a command is sent again only after an answer that says that it was not carried out.
//! - INV-2: a command that may have been carried out fails at once; the slots are looked up in the background.
//! - INV-3: if nodes differ about the slots, the view that most of them share counts.

mod command;
mod refresh;
mod slots;
mod state;
mod view;

pub(crate) use self::slots::slot;
pub(crate) use self::state::Cluster;
