//! [`App`]: the state of the service.

use crate::ledger::Ledger;
use crate::store::Transactions;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) may_simulate: bool,
    /// The store, if the handlers complete in its transactions.
    pub(crate) transactional: Option<Transactions>,
}
