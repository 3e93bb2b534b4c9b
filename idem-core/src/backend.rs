//! For authors of backends with transactions and of layers over the engine. Services do not need it.
//!
//! A backend that completes a reservation in the caller's own database transaction reads its token with [`owner`] and
//! its retention with [`retention`], writes the completion, commits, and then calls [`mark_committed`]. A layer that
//! hands the reservation to such a backend keeps a [`Receipt`](crate::Receipt) and calls its `outcome` afterwards.

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

/// Marks a reservation as completed with this answer by a committed transaction. Callers that wait for the answer in this
/// process get it.
///
/// Call it only for a transaction that is known to be committed: it is not checked.
pub fn mark_committed(reservation: Reservation, answer: &Answer) {
    reservation.mark_committed(answer);
}
