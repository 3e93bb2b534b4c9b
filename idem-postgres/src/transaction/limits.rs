//! Time limits of transactions, in this process and on the server.

use std::time::Duration;

use crate::store::StoreInner;

/// How long a rollback may take before the connection is given up.
pub(super) const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for the lock of the owner's record: other callers hold it for one statement.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a COMMIT may take before the record is read to find out what became of it.
pub(super) const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to notice that a session is over, before the transaction's status counts as unknown.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two attempts to find out what became of a transaction.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// The longest `idle_in_transaction_session_timeout` of Postgres, in whole seconds.
const LONGEST_IDLE: Duration = Duration::from_secs(2_147_483);

/// How long a transaction may stay idle.
pub(super) fn idle_timeout(store: &StoreInner) -> Duration {
    store.options.idle_in_transaction_timeout.clamp(Duration::from_millis(1), LONGEST_IDLE)
}

/// The settings that free the key of a client that vanished, between two statements and during one. They end with the
/// transaction.
pub(super) fn settings(store: &StoreInner) -> String {
    let idle = format!("SET LOCAL idle_in_transaction_session_timeout = {}", idle_timeout(store).as_millis());
    match store.detects_lost_clients.get() {
        Some(true) => format!("{idle}; SET LOCAL client_connection_check_interval = 1000"),
        _ => idle,
    }
}
