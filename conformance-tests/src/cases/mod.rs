//! The cases, with a module for each chapter of the scenarios.

mod abandon;
mod complete;
mod concurrency;
mod crash;
mod encoding;
mod engine;
mod fencing;
mod fingerprint;
mod get;
mod keys;
mod lease;
mod release;
mod reserve;
mod retention;
mod unknown;

use crate::case::Case;
use crate::{linearizability, model};

pub(crate) fn all() -> impl Iterator<Item = Case> {
    let chapters = [
        reserve::CASES,
        complete::CASES,
        release::CASES,
        abandon::CASES,
        get::CASES,
        lease::CASES,
        fencing::CASES,
        fingerprint::CASES,
        retention::CASES,
        unknown::CASES,
        crash::CASES,
        encoding::CASES,
        keys::CASES,
    ];
    let grouped = concurrency::CASES.into_iter().chain(engine::CASES);
    chapters.into_iter().chain(grouped).chain([model::CASES, linearizability::CASES]).flatten().copied()
}
