//! Histories that no correct store makes, each of which the checker has to refuse; and good ones, which it must not.

use crate::span;
use idem_core::FencingToken;
use idem_core::store::{Completion, OwnerToken, ReserveRequest};

use super::checker::{Operation, check};
use crate::call::{Call, Reply, Says};
use crate::caller::bytes;
use crate::context::{DAY, HOUR, fingerprint};

const A: OwnerToken = OwnerToken::from_bytes([0xa; 16]);
const B: OwnerToken = OwnerToken::from_bytes([0xb; 16]);
const C: OwnerToken = OwnerToken::from_bytes([0xc; 16]);

#[test]
fn two_owners_at_once_are_refused() {
    refuses(&[
        from(1).to(4).asked(reserve(A)).was_told(reserved(1, 10)),
        from(2).to(3).asked(reserve(B)).was_told(reserved(1, 11)),
    ]);
}

#[test]
fn a_lost_completion_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(complete(A, "a")).was_told(says(Says::Completed)),
        from(5).to(6).asked(reserve(B)).was_told(says(Says::InFlight { attempt: 1 })),
    ]);
}

#[test]
fn an_answer_that_changes_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(complete(A, "a")).was_told(says(Says::Completed)),
        from(5).to(6).asked(reserve(B)).was_told(replay("a")),
        from(7).to(8).asked(reserve(C)).was_told(replay("b")),
    ]);
}

#[test]
fn an_accepted_zombie_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(Call::Abandon { owner: A }).was_told(says(Says::Abandoned)),
        from(5).to(6).asked(reserve(B)).was_told(reserved(2, 11)),
        from(7).to(8).asked(complete(A, "a")).was_told(says(Says::Completed)),
    ]);
}

#[test]
fn a_fence_that_does_not_grow_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(Call::Abandon { owner: A }).was_told(says(Says::Abandoned)),
        from(5).to(6).asked(reserve(B)).was_told(reserved(2, 10)),
    ]);
}

#[test]
fn a_read_of_the_past_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(Call::Get).was_told(says(Says::Nothing)),
    ]);
}

#[test]
fn a_replay_from_the_future_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(reserve(B)).was_told(replay("a")),
        from(5).to(6).asked(complete(A, "a")).was_told(says(Says::Completed)),
    ]);
}

#[test]
fn a_takeover_that_forgets_the_attempt_before_it_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(Call::Abandon { owner: A }).was_told(says(Says::Abandoned)),
        from(5).to(6).asked(reserve(B)).was_told(reserved(1, 11)),
    ]);
}

#[test]
fn a_release_of_another_owners_key_is_refused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).to(4).asked(reserve(B)).was_told(says(Says::InFlight { attempt: 1 })),
        from(5).to(6).asked(Call::Release { owner: B }).was_told(says(Says::Released)),
    ]);
}

#[test]
fn a_resent_reserve_that_became_another_attempt_is_refused() {
    refuses(&[
        from(1).asked(reserve(A)).was_told_nothing(),
        from(2).to(3).asked(reserve(A)).was_told(reserved(1, 10)),
        from(4).to(5).asked(reserve(A)).was_told(reserved(1, 11)),
    ]);
}

#[test]
fn an_unknown_outcome_excuses_only_what_it_can_have_caused() {
    refuses(&[
        from(1).to(2).asked(reserve(A)).was_told(reserved(1, 10)),
        from(3).asked(Call::Renew { owner: B, lease: HOUR }).was_told_nothing(),
        from(4).to(5).asked(reserve(C)).was_told(reserved(2, 11)),
    ]);
}

#[test]
fn overlapping_calls_may_have_come_in_either_order() {
    accepts(&[
        from(1).to(4).asked(reserve(A)).was_told(says(Says::InFlight { attempt: 1 })),
        from(2).to(3).asked(reserve(B)).was_told(reserved(1, 10)),
    ]);
}

#[test]
fn an_unknown_outcome_may_show_much_later() {
    accepts(&[
        from(1).asked(reserve(A)).was_told_nothing(),
        from(2).to(3).asked(Call::Get).was_told(says(Says::Nothing)),
        from(4).to(5).asked(reserve(B)).was_told(says(Says::InFlight { attempt: 1 })),
        from(6).to(7).asked(reserve(A)).was_told(reserved(1, 10)),
    ]);
}

#[test]
fn an_unknown_outcome_may_never_show() {
    accepts(&[
        from(1).asked(reserve(A)).was_told_nothing(),
        from(2).to(3).asked(reserve(B)).was_told(reserved(1, 10)),
        from(4).to(5).asked(Call::Release { owner: B }).was_told(says(Says::Released)),
    ]);
}

#[track_caller]
fn refuses(operations: &[Operation]) {
    assert!(check(operations).is_err(), "the checker found an order");
}

#[track_caller]
fn accepts(operations: &[Operation]) {
    if let Err(report) = check(operations) {
        panic!("{report}");
    }
}

/// `from(1).to(2).asked(..).was_told(..)`, or `from(1).asked(..).was_told_nothing()`.
struct Draft {
    invoked: u64,
    returned: Option<u64>,
}

fn from(invoked: u64) -> Draft {
    Draft { invoked, returned: None }
}

impl Draft {
    fn to(self, returned: u64) -> Self {
        Self { returned: Some(returned), ..self }
    }

    fn asked(self, call: Call) -> Asked {
        Asked { draft: self, call }
    }
}

struct Asked {
    draft: Draft,
    call: Call,
}

impl Asked {
    fn was_told(self, reply: Reply) -> Operation {
        let Draft { invoked, returned } = self.draft;
        let at = returned.expect("what was answered has returned");
        Operation { invoked, returned: Some((at, reply)), call: self.call }
    }

    fn was_told_nothing(self) -> Operation {
        Operation { invoked: self.draft.invoked, returned: None, call: self.call }
    }
}

fn reserve(owner: OwnerToken) -> Call {
    Call::Reserve(ReserveRequest::new(owner, fingerprint("payload"), span(HOUR)))
}

fn complete(owner: OwnerToken, body: &'static str) -> Call {
    Call::Complete { owner, completion: Completion::new(bytes(body), span(DAY)) }
}

fn reserved(attempt: u32, fence: u64) -> Reply {
    let fence = FencingToken::new(fence);
    Reply { fence, times: vec![HOUR], ..says(Says::Reserved { attempt }) }
}

fn replay(body: &'static str) -> Reply {
    says(Says::Replay { answer: bytes(body), attempt: 1 })
}

fn says(says: Says) -> Reply {
    let times = if matches!(says, Says::InFlight { .. }) { vec![HOUR] } else { Vec::new() };
    Reply { says, fence: None, times }
}
