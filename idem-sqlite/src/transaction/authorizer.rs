//! What a step may do on the connection.

use rusqlite::Connection;
use rusqlite::hooks::{Action, AuthAction, AuthContext, Authorization};

/// The savepoint that a step runs in.
pub(super) const SAVEPOINT: &str = "idem_step";
/// The names of the store's own tables begin with this.
const TABLE_PREFIX: &str = "idem_";

/// Starts the restrictions of a step.
pub(super) fn restrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.authorizer(Some(authorize))?;
    // A statement can roll back the transaction (`OR ROLLBACK`), and then SQLite would commit each further statement of
    // the step by itself. This hook turns every commit during a step into a rollback.
    connection.commit_hook(Some(|| true))
}

/// Ends the restrictions, and removes the hooks that the step has set.
pub(super) fn unrestrict(connection: &Connection) -> rusqlite::Result<()> {
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    connection.commit_hook(None::<fn() -> bool>)?;
    connection.rollback_hook(None::<fn()>)?;
    connection.update_hook(None::<fn(Action, &str, &str, i64)>)?;
    connection.progress_handler(0, None::<fn() -> bool>)
}

/// Denies a step to end the transaction, which other operations share, and to write the store's own tables.
fn authorize(context: AuthContext<'_>) -> Authorization {
    let is_denied = match context.action {
        AuthAction::Transaction { .. } | AuthAction::Attach { .. } | AuthAction::Detach { .. } => true,
        // This pragma only reads, and a write to a full-text index needs it.
        AuthAction::Pragma { pragma_name, .. } => !pragma_name.eq_ignore_ascii_case("data_version"),
        AuthAction::Savepoint { savepoint_name, .. } => savepoint_name.eq_ignore_ascii_case(SAVEPOINT),
        AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::CreateVtable { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::CreateTempTrigger { table_name, .. } => is_reserved(table_name),
        AuthAction::CreateView { view_name } | AuthAction::CreateTempView { view_name } => {
            is_reserved(view_name)
        }
        _ => false,
    };
    if is_denied { Authorization::Deny } else { Authorization::Allow }
}

fn is_reserved(name: &str) -> bool {
    name.get(..TABLE_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(TABLE_PREFIX))
}
