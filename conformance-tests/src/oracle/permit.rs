//! [`Permit`]: a reply that an oracle permits.

use std::time::Duration;

use idem_core::FencingToken;

use super::call::{Reply, ReplyKind};
use super::history::What;

/// A reply that the history permits, and what it would add to the history.
#[derive(Clone, Debug)]
pub(super) struct Permit {
    pub(super) kind: ReplyKind,
    pub(super) fence: FenceRule,
    pub(super) times: Vec<Duration>,
    pub(super) adds: Option<What>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FenceRule {
    None,
    Exactly(FencingToken),
    Above(Option<FencingToken>),
}

impl Permit {
    pub(super) fn new(kind: ReplyKind) -> Self {
        Self { kind, fence: FenceRule::None, times: Vec::new(), adds: None }
    }

    pub(super) fn fence(mut self, fence: FenceRule) -> Self {
        self.fence = fence;
        self
    }

    pub(super) fn times(mut self, times: impl IntoIterator<Item = Duration>) -> Self {
        self.times = times.into_iter().collect();
        self
    }

    pub(super) fn adds(mut self, what: What) -> Self {
        self.adds = Some(what);
        self
    }

    pub(super) fn agrees(&self, reply: &Reply, slack: Duration) -> bool {
        let fence_agrees = match self.fence {
            FenceRule::None => reply.fence.is_none(),
            FenceRule::Exactly(fence) => reply.fence == Some(fence),
            FenceRule::Above(floor) => reply.fence > floor,
        };
        let times_agree = self.times.len() == reply.times.len()
            && self
                .times
                .iter()
                .zip(&reply.times)
                .all(|(permitted, given)| permitted.abs_diff(*given) <= slack);
        self.kind == reply.kind && fence_agrees && times_agree
    }
}
