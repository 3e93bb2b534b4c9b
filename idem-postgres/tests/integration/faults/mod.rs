//! Failures of what surrounds the store: the server, the network, the disk, the clock, operators and other roles.

mod clocks;
mod disk;
mod locks;
mod opening;
mod pooler;
mod servers;
mod settings;
mod tables;
