//! The named windows in which a process is killed.

use std::fmt;

/// Where a request stands when its process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// Its body is still being received; nothing has been asked of the store.
    BeforeReservation,
    /// Its key is reserved; the effect has not begun.
    AfterReservation,
    /// The effect and the completion are written, and not committed. Only where they are one transaction.
    InTransaction,
    /// The effect is committed, and the completion is not. Only where they are two.
    BetweenEffectAndCompletion,
    /// All is committed; the client has heard nothing. Only where the commit can be seen from outside.
    BetweenCommitAndAnswer,
    /// The client has its answer.
    AfterAnswer,
}

impl Window {
    pub(crate) const TRANSACTIONAL: &[Self] = &[
        Self::BeforeReservation,
        Self::AfterReservation,
        Self::InTransaction,
        Self::BetweenCommitAndAnswer,
        Self::AfterAnswer,
    ];

    pub(crate) const PLAIN: &[Self] = &[
        Self::BeforeReservation,
        Self::AfterReservation,
        Self::BetweenEffectAndCompletion,
        Self::AfterAnswer,
    ];
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BeforeReservation => "before the reservation",
            Self::AfterReservation => "after the reservation",
            Self::InTransaction => "inside the open transaction",
            Self::BetweenEffectAndCompletion => "between effect and completion",
            Self::BetweenCommitAndAnswer => "between commit and answer",
            Self::AfterAnswer => "after the answer",
        })
    }
}
