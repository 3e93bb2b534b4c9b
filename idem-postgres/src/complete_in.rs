//! [`PostgresStore::complete_in`]: completion inside a transaction that the caller has begun and will commit.

use idem_core::store::{Completion, OwnerToken};
use idem_core::{CompleteOutcome, Key, StoreError};
use tokio_postgres::Transaction;

use crate::{PostgresStore, session};

impl PostgresStore {
    /// Writes the completion of an owner's key inside of a transaction of the caller's, which commits it together with its
    /// effect. For those who cannot hand their transaction over; all others take
    /// [`begin_transaction`](crate::ReservationExt::begin_transaction), which cannot be committed without this.
    ///
    /// The tables have to be in the database of that transaction.
    ///
    /// - `Completed`: written by *this* transaction. Commit it, and then tell the reservation
    ///   ([`Reservation::committed`](idem_core::Reservation::committed)). If the commit fails, or nobody can say whether it
    ///   did, drop the reservation, or reserve again with its token: `Stale` says that it was committed.
    /// - In a savepoint it is undone with that: let the effect be in the same one, or this in the outermost transaction.
    /// - `AlreadyCompleted`, `AnswerConflict`, `Lost`: nothing was written. *Roll back*: the effect is another's to have.
    /// - From here until its end the transaction has the record locked. At `READ COMMITTED`, wait with this for the end,
    ///   and the lease is renewed until then. At `REPEATABLE READ` and `SERIALIZABLE` begin the transaction after the
    ///   reservation, and call this early: a renewal in between is a serialization failure (`40001`, `Unavailable`), after
    ///   which the whole transaction is to be run again.
    /// - In a transaction that is read-only, or failed before, this is refused as `Misconfigured`; by a statement or lock
    ///   timeout it fails as `Timeout`. All of its errors are without effect, and leave nothing but to roll back.
    pub async fn complete_in(
        &self,
        transaction: &mut Transaction<'_>,
        key: &Key,
        owner: OwnerToken,
        completion: Completion,
    ) -> Result<CompleteOutcome, StoreError> {
        session::complete_in(&self.inner, transaction, key, owner, completion).await
    }
}
