//! What the server's SQLSTATEs mean for an operation, case by case
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use idem_core::{Effect, StoreErrorKind};
use thiserror::Error;

/// What the server said, whichever driver heard it. Neither the parameters of the statement nor the details, in which the
/// server repeats them.
#[derive(Clone, Debug, Error)]
#[error("Postgres: {severity} ({code}): {message}{}", advice(code))]
pub(crate) struct ServerError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    /// It ended the session, or the whole server.
    pub(crate) is_fatal: bool,
}

impl ServerError {
    /// Whether a statement that failed so, and was a transaction of its own, may have had its effect.
    ///
    /// An `ERROR` undoes the transaction. Whatever ends the session instead may have come after the commit: a server that
    /// is shut down while a commit waits for a replica says so, for one.
    pub(crate) fn effect(&self) -> Effect {
        // statement_completion_unknown and transaction_resolution_unknown, which poolers and foreign servers say.
        if self.is_fatal || matches!(&*self.code, "40003" | "08007") {
            Effect::Unknown
        } else {
            Effect::NotApplied
        }
    }

    pub(crate) fn kind(&self) -> StoreErrorKind {
        kind(&self.code)
    }
}

fn kind(code: &str) -> StoreErrorKind {
    match code {
        // statement_timeout, or somebody cancelled it; lock_timeout, or NOWAIT: somebody else's lock; transaction_timeout.
        "57014" | "55P03" | "25P04" => StoreErrorKind::Timeout,
        "53100" => StoreErrorKind::Full,
        // It has too many connections, or no memory.
        "53000" | "53200" | "53300" | "53400"
        // Others were in the way: serialization failure, deadlock.
        | "40001" | "40P01" | "40000" | "40003"
        // It is shut down, crashed, is starting, or ended a session that was idle.
        | "57P01" | "57P02" | "57P03" | "57P05" | "25P03"
        // A failover may be under way, and this be the old primary.
        | "25006"
        // I/O errors of the server's disk.
        | "58000" | "58030" => StoreErrorKind::Unavailable,
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // No such database, no such schema, no such table, no right to it, a column that is missing or of another type; a
        // name that a pooler lost.
        "3D000" | "3F000" | "42P01" | "42703" | "42804" | "42883" | "42501" | "26000" | "42P05" => {
            StoreErrorKind::Misconfigured
        }
        _ => kind_of_class(code.get(..2).unwrap_or_default()),
    }
}

fn kind_of_class(class: &str) -> StoreErrorKind {
    match class {
        // A transaction that failed before (25P02), one that is over, one in a wrong state. No such role, wrong password.
        "25" | "28" => StoreErrorKind::Misconfigured,
        // A limit of Postgres's own.
        "54" => StoreErrorKind::TooLarge,
        // The connection.
        "08" => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Internal,
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "42P01" | "42703" | "42804" | "42883" | "3F000" => "; apply the schema (`PostgresStore::schema_sql`)",
        "42501" => {
            "; the store's role needs USAGE on the schema, SELECT, INSERT, UPDATE, DELETE on its two tables, EXECUTE on \
             their functions, and CREATE on the schema to make them"
        }
        "25006" => {
            "; the transaction is read-only, or the server a standby: connect to the primary \
             (`target_session_attrs=read-write`)"
        }
        "25P02" => "; an earlier statement of this transaction failed: roll it back",
        "40001" | "40P01" => "; run the whole transaction again",
        "53300" => "; make `pool_size` smaller, or put a pooler before the server",
        "26000" | "42P05" => "; there is a pooler between: use `Statements::Unnamed`",
        "23514" => "; the fencing tokens are used up (above 2^53 - 1): check the server's clock",
        _ => "",
    }
}
