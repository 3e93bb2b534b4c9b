//! Sequences that once failed over a wrong store, shrunk by proptest and named by what they showed.

use super::step::Call::{Abandon, Complete, Get, Release, Renew, Reserve};
use super::step::Step::{self, Call, Hours, Millis, Sweep};

pub(super) fn all() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "a renewal that is shorter than what is left of the lease",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 6, record_ttl: 1, refuse: false }),
                Call(Renew { token: 0, lease: 1 }),
                Hours(2),
                Call(Reserve { token: 1, payload: 0, lease: 1, record_ttl: 1, refuse: false }),
            ],
        ),
        (
            "a renewal after an abandon",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 1, record_ttl: 1, refuse: false }),
                Call(Abandon { token: 0 }),
                Call(Renew { token: 0, lease: 1 }),
                Call(Reserve { token: 1, payload: 0, lease: 1, record_ttl: 1, refuse: true }),
            ],
        ),
        (
            "a sweep at the instant before an undecided record is forgotten, and at that instant",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 1, record_ttl: 1, refuse: false }),
                Hours(1),
                Millis(3_599_999),
                Sweep,
                Call(Get),
                Millis(1),
                Sweep,
                Call(Get),
            ],
        ),
        (
            "a completion of a lease that is over, and its expiry",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 1, record_ttl: 6, refuse: false }),
                Hours(5),
                Call(Complete { token: 0, answer: 1, retention: 2 }),
                Hours(1),
                Call(Reserve { token: 1, payload: 0, lease: 1, record_ttl: 1, refuse: false }),
                Hours(1),
                Call(Complete { token: 0, answer: 1, retention: 2 }),
                Call(Reserve { token: 1, payload: 1, lease: 1, record_ttl: 1, refuse: false }),
            ],
        ),
        (
            "a released takeover, remembered for its record_ttl",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 1, record_ttl: 30, refuse: false }),
                Hours(1),
                Call(Reserve { token: 1, payload: 0, lease: 1, record_ttl: 30, refuse: false }),
                Call(Release { token: 1 }),
                Hours(11),
                Call(Reserve { token: 2, payload: 0, lease: 1, record_ttl: 1, refuse: false }),
            ],
        ),
        (
            "a tombstone that stays only for the rest of the lease",
            vec![
                Call(Reserve { token: 0, payload: 0, lease: 6, record_ttl: 1, refuse: false }),
                Hours(1),
                Call(Release { token: 0 }),
                Hours(5),
                Call(Release { token: 1 }),
            ],
        ),
    ]
}
