//! [`SqlTexts`]: every statement of the store, with its parameters' types and the store's own names.

use tokio_postgres::types::Type;

use crate::names::Names;
use crate::row::Types;

/// A statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) types: Types,
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident [$($ty:ident),*]),+ $(,)?) => {
        /// The statements of `sql/`, one field a file.
        #[derive(Debug)]
        pub(crate) struct SqlTexts {
            $($(#[$doc])* pub(crate) $name: Statement),+
        }

        impl SqlTexts {
            pub(crate) fn new(names: &Names) -> Self {
                Self { $($name: Statement {
                    sql: names.apply(&uncommented(include_str!(concat!("sql/", stringify!($name), ".sql")))),
                    types: &[$(Type::$ty),*],
                }),+ }
            }
        }
    };
}

statements! {
    look [BYTEA],
    insert [BYTEA, BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
    claim [BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
    cut [BYTEA],
    renew [BYTEA, BYTEA, INTERVAL, BYTEA],
    complete [BYTEA, BYTEA, CHAR, INT2, INT8, BYTEA, INTERVAL, INT8],
    release [BYTEA, BYTEA, INTERVAL],
    insert_tombstone [BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL],
    bury [BYTEA, BYTEA, INTERVAL],
    abandon [BYTEA, BYTEA],
    uncompleted [BYTEA, BYTEA, CHAR, INT2, INT8, BYTEA],
    lock [BYTEA, BYTEA],
    transaction [],
    fate [INT8],
    notice [],
    terminate [INT4, INT8],
    sweep [INT8],
    due [],
    server [TEXT, TEXT, TEXT],
    version [],
}

/// The comments are for readers of the files; the server need not parse them with every statement.
fn uncommented(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}
