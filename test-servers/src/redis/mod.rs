//! Redis and Valkey: one [`Server`], a [`SentinelGroup`], or a [`Cluster`].

mod cluster;
mod kind;
mod sentinel;
mod server;

pub use cluster::{Cluster, SLOTS, owner_of};
pub use kind::Kind;
pub use sentinel::{SERVICE, Sentinel, SentinelGroup};
pub use server::{Server, Setup};
