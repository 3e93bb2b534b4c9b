//! [`ServerError`]: what an error code of Postgres means for an operation
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use idem_core::{Effect, StoreErrorKind};
use thiserror::Error;

/// An error message of the server, received by either driver.
///
/// It leaves out the statement's parameters and the server's details, which repeat them.
#[derive(Clone, Debug, Error)]
#[error("Postgres: {severity} ({code}): {message}{}", advice(code))]
pub(crate) struct ServerError {
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
    /// Whether it ended the session or the whole server.
    pub(crate) is_fatal: bool,
}

impl ServerError {
    /// Whether the failed statement, which was a transaction of its own, may have had its effect.
    ///
    /// An `ERROR` undoes the transaction. An error that ends the session can come after the commit, for example when the
    /// server shuts down while the commit waits for a replica.
    pub(crate) fn effect(&self) -> Effect {
        // statement_completion_unknown and transaction_resolution_unknown, from poolers and foreign servers.
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
        // statement_timeout or a cancel request; lock_timeout or NOWAIT; transaction_timeout.
        "57014" | "55P03" | "25P04" => StoreErrorKind::Timeout,
        "53100" => StoreErrorKind::Full,
        // Too many connections, or out of memory.
        "53000" | "53200" | "53300" | "53400"
        // Serialization failure, deadlock.
        | "40001" | "40P01" | "40000" | "40003"
        // The server shuts down, crashed or starts, or it ended an idle session.
        | "57P01" | "57P02" | "57P03" | "57P05" | "25P03"
        // A read-only server: during a failover it can be the old primary.
        | "25006"
        // I/O errors of the server's disk.
        | "58000" | "58030" => StoreErrorKind::Unavailable,
        "XX001" | "XX002" => StoreErrorKind::Corrupt,
        // A database, schema, table, function or right is missing; a column is missing or has another type; a pooler lost
        // the name of a prepared statement.
        "3D000" | "3F000" | "42P01" | "42703" | "42804" | "42883" | "42501" | "26000" | "42P05" => {
            StoreErrorKind::Misconfigured
        }
        _ => kind_of_class(code.get(..2).unwrap_or_default()),
    }
}

fn kind_of_class(class: &str) -> StoreErrorKind {
    match class {
        // A transaction that failed before (25P02) or is in a wrong state; a role that does not exist, a wrong password.
        "25" | "28" => StoreErrorKind::Misconfigured,
        // A limit of Postgres itself.
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
            "; the role of the store needs USAGE on the schema, SELECT, INSERT, UPDATE and DELETE on its two tables, EXECUTE \
             on their functions, and CREATE on the schema to create them"
        }
        "25006" => {
            "; the transaction is read-only, or the server is a standby: connect to the primary \
             (`target_session_attrs=read-write`)"
        }
        "25P02" => "; an earlier statement of this transaction failed: roll it back",
        "40001" | "40P01" => "; run the whole transaction again",
        "53300" => "; lower `pool_size`, or put a pooler in front of the server",
        "26000" | "42P05" => "; a pooler is in between: use `Statements::Unnamed`",
        "23514" => "; the fencing tokens are used up (above 2^53 - 1): check the server's clock",
        _ => "",
    }
}
