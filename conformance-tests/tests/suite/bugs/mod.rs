//! The planted bugs, with a file for each chapter of the scenarios.

mod abandon;
mod answers;
mod complete;
mod fencing;
mod fingerprint;
mod get;
mod keys;
mod lease;
mod races;
mod release;
mod reserve;
mod retention;

use crate::broken::Broken;

pub(crate) fn all() -> Vec<Broken> {
    let chapters = [
        reserve::BUGS,
        complete::BUGS,
        answers::BUGS,
        release::BUGS,
        abandon::BUGS,
        get::BUGS,
        lease::BUGS,
        fencing::BUGS,
        fingerprint::BUGS,
        retention::BUGS,
        keys::BUGS,
        races::BUGS,
    ];
    chapters.into_iter().flatten().copied().collect()
}
