//! Tests of the suite: it runs over a backend outside of the workspace, and it catches stores with planted bugs.

mod broken;
mod bugs;
mod coverage;
mod intercept;
mod loose;
mod outside;
mod planted;
