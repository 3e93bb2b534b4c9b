//! What backends with transactions, and layers over the engine, need; handlers and services do not.
//!
//! A backend that completes a reservation in the caller's own database transaction reads its token with [`owner`] and
//! its retention with [`retention`], writes the completion, commits, and then calls [`mark_committed`]. A layer that
//! hands the reservation to such a backend keeps a [`Receipt`](crate::Receipt) and asks it what became of the run.

use crate::store::{OwnerToken, Span};
use crate::{Answer, Reservation};

pub use crate::backoff::Backoff;
pub use crate::unwind::{Panic, catch_unwind};

/// The token that the key was reserved with.
pub fn owner(reservation: &Reservation) -> OwnerToken {
    reservation.owner()
}

/// How long the engine keeps answers.
pub fn retention(reservation: &Reservation) -> Span {
    reservation.retention()
}

/// Takes note that a transaction which completed the key with this answer was committed: the reservation is settled, and
/// callers that wait for the answer in this process get it.
///
/// Call it only for a transaction that is known to be committed: nothing checks it.
pub fn mark_committed(reservation: Reservation, answer: &Answer) {
    reservation.mark_committed(answer);
}
