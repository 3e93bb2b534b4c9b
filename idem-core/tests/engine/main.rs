//! The engine through its public API, on a store that fails when it is told to.

mod execute;
mod support;
