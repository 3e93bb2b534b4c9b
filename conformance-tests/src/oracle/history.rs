//! [`History`]: what was accepted about one key.

use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{Answer, FencingToken, Fingerprint};

/// The accepted calls of one key, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    events: Vec<Event>,
}

/// The part of a history that later replies can depend on: the last tenancy and the greatest fence.
pub(crate) type Essence = (Vec<Event>, Option<FencingToken>);

/// Something that was accepted. Refusals and reads change nothing and add no event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Event {
    pub(super) at: Duration,
    pub(super) owner: OwnerToken,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// The fence is unknown if the reply was lost.
    Granted {
        attempt: u32,
        fence: Option<FencingToken>,
        fingerprint: Fingerprint,
        lease: Duration,
        record_ttl: Duration,
    },
    Extended {
        lease: Duration,
    },
    /// The fence of a grant whose reply was lost became known.
    Learned {
        fence: FencingToken,
    },
    Abandoned,
    Completed {
        answer: Answer,
        retention: Duration,
    },
    Released,
    /// A release of a key that had no record.
    ReleasedAbsent,
}

impl History {
    pub(super) fn push(&mut self, at: Duration, owner: OwnerToken, what: What) {
        self.events.push(Event { at, owner, what });
    }

    /// The last grant and everything after it. All of that is the owner's, because nothing else is accepted.
    pub(super) fn tenancy(&self) -> &[Event] {
        let opens = |event: &Event| matches!(event.what, What::Granted { .. } | What::ReleasedAbsent);
        let start = self.events.iter().rposition(opens).unwrap_or(self.events.len());
        &self.events[start..]
    }

    pub(super) fn greatest_fence(&self) -> Option<FencingToken> {
        let fences = self.events.iter().filter_map(|event| match event.what {
            What::Granted { fence, .. } => fence,
            What::Learned { fence } => Some(fence),
            _ => None,
        });
        fences.max()
    }

    pub(super) fn essence(&self) -> Essence {
        (self.tenancy().to_vec(), self.greatest_fence())
    }
}
