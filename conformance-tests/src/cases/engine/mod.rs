//! The engine on this store: what its callers get when handlers fail, panic, hang or are cancelled, when the store does not
//! answer, and when they wait.

mod format;
mod guard;
mod handler;
mod lease;
mod operator;
mod store_down;
mod support;
mod waiting;

use crate::case::Case;

pub(super) const CASES: [&[Case]; 7] = [
    handler::CASES,
    store_down::CASES,
    lease::CASES,
    format::CASES,
    operator::CASES,
    waiting::CASES,
    guard::CASES,
];
