//! Figure h: what drawing an owner token costs, by the system call that it saves.

use std::hint::black_box;
use std::time::Instant;

use idem_core::store::OwnerToken;

use super::setup::Scale;
use crate::report::{Figure, Target};
use crate::rounds::{alternate, nanos_each};

pub(super) fn draw(scale: &Scale) -> Figure {
    let count = usize::try_from(scale.requests).unwrap_or(usize::MAX);
    let rounds = alternate(
        scale.rounds,
        || {
            let started = Instant::now();
            for _ in 0..count {
                let mut token = [0; 16];
                assert!(getrandom::fill(&mut token).is_ok(), "the system has no randomness");
                black_box(token);
            }
            nanos_each(started, count)
        },
        || {
            let started = Instant::now();
            for _ in 0..count {
                black_box(OwnerToken::random());
            }
            nanos_each(started, count)
        },
    );
    Figure {
        id: "h",
        what: "owner token, by one getrandom call of 16 bytes".to_owned(),
        unit: "ns",
        target: Target::Untargeted,
        value: rounds.subject(),
        comparisons: vec![("getrandom", rounds.floor())],
        flush: None,
    }
}
