//! [`Step`]: one step of a random sequence, printed as the code that makes it.

use idem_core::store::{Completion, OwnerToken, ReserveRequest};
use idem_core::{Answer, ExpiredLeasePolicy};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::oracle;
use crate::values::{HOUR, bytes, fingerprint, span};

/// One step. Spans are whole hours.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Hours(u32),
    /// Skipped unless the clock stands still.
    Millis(u32),
    Sweep,
    Call(Call),
}

/// A call in which small numbers stand for tokens, payloads and answers.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Reserve {
        token: u8,
        payload: u8,
        lease: u32,
        record_ttl: u32,
        refuse: bool,
    },
    Renew {
        token: u8,
        lease: u32,
    },
    /// Answer 0 is "not kept", 1 is empty.
    Complete {
        token: u8,
        answer: u8,
        retention: u32,
    },
    Release {
        token: u8,
    },
    Abandon {
        token: u8,
    },
    Get,
}

impl Call {
    pub(super) fn with_tokens(&self, token_of: impl Fn(u8) -> OwnerToken) -> oracle::Call {
        match *self {
            Self::Reserve { token, payload, lease, record_ttl, refuse } => {
                let policy = if refuse { ExpiredLeasePolicy::Refuse } else { ExpiredLeasePolicy::TakeOver };
                let request = ReserveRequest::new(
                    token_of(token),
                    fingerprint(&format!("{payload}")),
                    span(HOUR * lease),
                );
                oracle::Call::Reserve(request.record_ttl(span(HOUR * record_ttl)).on_expired_lease(policy))
            }
            Self::Renew { token, lease } => {
                oracle::Call::Renew { owner: token_of(token), lease: HOUR * lease }
            }
            Self::Complete { token, answer, retention } => {
                let answer = match answer {
                    0 => Answer::NotKept,
                    1 => bytes(""),
                    other => bytes(vec![other; 3]),
                };
                let completion = Completion::new(answer, span(HOUR * retention));
                oracle::Call::Complete { owner: token_of(token), completion }
            }
            Self::Release { token } => oracle::Call::Release { owner: token_of(token) },
            Self::Abandon { token } => oracle::Call::Abandon { owner: token_of(token) },
            Self::Get => oracle::Call::Get,
        }
    }
}

/// Sequences in which calls often conflict: few tokens, two payloads, and spans that often end at the same instant.
pub(super) fn sequences() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..40)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![Just(1_u32), Just(2), Just(5), Just(11), Just(40)].prop_map(Step::Hours),
        // The instant before a span ends, and the instant itself.
        1 => prop_oneof![Just(1_u32), Just(3_599_999)].prop_map(Step::Millis),
        1 => Just(Step::Sweep),
        16 => call().prop_map(Step::Call),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let token = || 0_u8..3;
    // Mostly the first payload, because after a mismatch little happens.
    let payload = || prop_oneof![7 => Just(0_u8), 1 => Just(1_u8)];
    prop_oneof![
        6 => (token(), payload(), hours(), hours(), any::<bool>()).prop_map(
            |(token, payload, lease, record_ttl, refuse)| Call::Reserve { token, payload, lease, record_ttl, refuse }
        ),
        2 => (token(), hours()).prop_map(|(token, lease)| Call::Renew { token, lease }),
        2 => (token(), 0_u8..4, hours())
            .prop_map(|(token, answer, retention)| Call::Complete { token, answer, retention }),
        2 => token().prop_map(|token| Call::Release { token }),
        2 => token().prop_map(|token| Call::Abandon { token }),
        2 => Just(Call::Get),
    ]
}

fn hours() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1_u32), Just(2), Just(6), Just(30)]
}
