//! Histories that no correct store produces and the checker must refuse, and good ones that it must accept.

use idem_core::FencingToken;
use idem_core::store::{Completion, OwnerToken, ReserveRequest};

use super::checker::{Operation, check};
use crate::oracle::{Call, Reply, ReplyKind};
use crate::values::{DAY, HOUR, bytes, fingerprint, span};

const A: OwnerToken = OwnerToken::from_bytes([0xa; 16]);
const B: OwnerToken = OwnerToken::from_bytes([0xb; 16]);
const C: OwnerToken = OwnerToken::from_bytes([0xc; 16]);

#[test]
fn two_owners_at_once_are_refused() {
    refuses(&[
        from(1).to(4).call(reserve(A)).returned(reserved(1, 10)),
        from(2).to(3).call(reserve(B)).returned(reserved(1, 11)),
    ]);
}

#[test]
fn a_lost_completion_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(complete(A, "a")).returned(reply(ReplyKind::Completed)),
        from(5).to(6).call(reserve(B)).returned(reply(ReplyKind::InFlight { attempt: 1 })),
    ]);
}

#[test]
fn an_answer_that_changes_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(complete(A, "a")).returned(reply(ReplyKind::Completed)),
        from(5).to(6).call(reserve(B)).returned(replay("a")),
        from(7).to(8).call(reserve(C)).returned(replay("b")),
    ]);
}

#[test]
fn an_accepted_zombie_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(Call::Abandon { owner: A }).returned(reply(ReplyKind::Abandoned)),
        from(5).to(6).call(reserve(B)).returned(reserved(2, 11)),
        from(7).to(8).call(complete(A, "a")).returned(reply(ReplyKind::Completed)),
    ]);
}

#[test]
fn a_fence_that_does_not_grow_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(Call::Abandon { owner: A }).returned(reply(ReplyKind::Abandoned)),
        from(5).to(6).call(reserve(B)).returned(reserved(2, 10)),
    ]);
}

#[test]
fn a_read_of_the_past_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(Call::Get).returned(reply(ReplyKind::Nothing)),
    ]);
}

#[test]
fn a_replay_from_the_future_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(reserve(B)).returned(replay("a")),
        from(5).to(6).call(complete(A, "a")).returned(reply(ReplyKind::Completed)),
    ]);
}

#[test]
fn a_takeover_that_forgets_the_attempt_before_it_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(Call::Abandon { owner: A }).returned(reply(ReplyKind::Abandoned)),
        from(5).to(6).call(reserve(B)).returned(reserved(1, 11)),
    ]);
}

#[test]
fn a_release_of_another_owners_key_is_refused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).to(4).call(reserve(B)).returned(reply(ReplyKind::InFlight { attempt: 1 })),
        from(5).to(6).call(Call::Release { owner: B }).returned(reply(ReplyKind::Released)),
    ]);
}

#[test]
fn a_resent_reserve_that_became_another_attempt_is_refused() {
    refuses(&[
        from(1).call(reserve(A)).never_returned(),
        from(2).to(3).call(reserve(A)).returned(reserved(1, 10)),
        from(4).to(5).call(reserve(A)).returned(reserved(1, 11)),
    ]);
}

#[test]
fn an_unknown_outcome_excuses_only_what_it_can_have_caused() {
    refuses(&[
        from(1).to(2).call(reserve(A)).returned(reserved(1, 10)),
        from(3).call(Call::Renew { owner: B, lease: HOUR }).never_returned(),
        from(4).to(5).call(reserve(C)).returned(reserved(2, 11)),
    ]);
}

#[test]
fn overlapping_calls_may_have_come_in_either_order() {
    accepts(&[
        from(1).to(4).call(reserve(A)).returned(reply(ReplyKind::InFlight { attempt: 1 })),
        from(2).to(3).call(reserve(B)).returned(reserved(1, 10)),
    ]);
}

#[test]
fn an_unknown_outcome_may_show_much_later() {
    accepts(&[
        from(1).call(reserve(A)).never_returned(),
        from(2).to(3).call(Call::Get).returned(reply(ReplyKind::Nothing)),
        from(4).to(5).call(reserve(B)).returned(reply(ReplyKind::InFlight { attempt: 1 })),
        from(6).to(7).call(reserve(A)).returned(reserved(1, 10)),
    ]);
}

#[test]
fn an_unknown_outcome_may_never_show() {
    accepts(&[
        from(1).call(reserve(A)).never_returned(),
        from(2).to(3).call(reserve(B)).returned(reserved(1, 10)),
        from(4).to(5).call(Call::Release { owner: B }).returned(reply(ReplyKind::Released)),
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

/// `from(1).to(2).call(..).returned(..)`, or `from(1).call(..).never_returned()`.
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

    fn call(self, call: Call) -> CallDraft {
        CallDraft { draft: self, call }
    }
}

struct CallDraft {
    draft: Draft,
    call: Call,
}

impl CallDraft {
    fn returned(self, reply: Reply) -> Operation {
        let Draft { invoked, returned } = self.draft;
        let at = returned.expect("a call with a reply has returned");
        Operation { invoked, returned: Some((at, reply)), call: self.call }
    }

    fn never_returned(self) -> Operation {
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
    Reply { fence, times: vec![HOUR], ..reply(ReplyKind::Reserved { attempt }) }
}

fn replay(body: &'static str) -> Reply {
    reply(ReplyKind::Replay { answer: bytes(body), attempt: 1 })
}

fn reply(kind: ReplyKind) -> Reply {
    let times = if matches!(kind, ReplyKind::InFlight { .. }) { vec![HOUR] } else { Vec::new() };
    Reply { kind, fence: None, times }
}
