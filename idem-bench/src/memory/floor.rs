//! [`Floor`]: the cheapest way to do an idempotency store's work in a `DashMap`.
//!
//! A first request claims its key, if nobody has it, with what the claim has to remember (who and what), and later
//! puts the answer into the claim, if it is still its own. A duplicate reads. There are no leases, no clock, no
//! attempts, no fences, no expiry, no bounds and no futures: what those cost is what the figures show.
//!
//! The hasher is fast and keyed, as the store's is.

use std::ops::Range;

use bytes::Bytes;
use dashmap::{DashMap, Entry};
use foldhash::quality::RandomState;
use idem_core::store::OwnerToken;
use idem_core::{Fingerprint, Key};

use crate::load::{Load, Request};

#[derive(Debug)]
struct Claim {
    owner: OwnerToken,
    fingerprint: Fingerprint,
    answer: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Floor {
    map: DashMap<Key, Claim, RandomState>,
}

/// What a duplicate finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Answer(Bytes),
    Running,
    /// No claim, or one of another request.
    Nothing,
}

impl Floor {
    /// Says whether the key was free.
    pub(crate) fn claim(&self, key: &Key, owner: OwnerToken, fingerprint: Fingerprint) -> bool {
        match self.map.entry(key.clone()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(Claim { owner, fingerprint, answer: None });
                true
            }
        }
    }

    /// Says whether the claim was `owner`'s.
    pub(crate) fn answer(&self, key: &Key, owner: OwnerToken, answer: Bytes) -> bool {
        match self.map.get_mut(key) {
            Some(mut claim) if claim.owner == owner => {
                claim.answer = Some(answer);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn look_up(&self, key: &Key, fingerprint: &Fingerprint) -> Found {
        match self.map.get(key) {
            Some(claim) if claim.fingerprint == *fingerprint => {
                claim.answer.clone().map_or(Found::Running, Found::Answer)
            }
            _ => Found::Nothing,
        }
    }

    pub(crate) fn first_request(&self, fingerprint: Fingerprint, request: Request) {
        let Request { key, owner, answer } = request;
        assert!(self.claim(&key, owner, fingerprint), "the key was taken");
        assert!(self.answer(&key, owner, answer), "the claim was lost");
    }

    pub(crate) fn check_answers(&self, fingerprint: &Fingerprint, load: &Load, numbers: Range<u64>) {
        for number in numbers {
            let found = self.look_up(&load.key(number), fingerprint);
            assert!(found == Found::Answer(load.answer(number)), "request {number} has another answer");
        }
    }
}
