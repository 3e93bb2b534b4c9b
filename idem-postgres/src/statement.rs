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

            #[cfg(test)]
            fn all(&self) -> Vec<&Statement> {
                vec![$(&self.$name),+]
            }
        }
    };
}

statements! {
    look [BYTEA],
    reserve [BYTEA, BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
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
    version [TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT],
}

/// The comments are for readers of the files; the server need not parse them with every statement.
fn uncommented(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_is_left_to_the_search_path() {
        let texts = SqlTexts::new(&Names::new("public", "idem_record").unwrap());
        let functions = ["reserve", "insert", "complete"].map(|function| {
            let path = format!("{}/src/sql/schema/v1/{function}.sql", env!("CARGO_MANIFEST_DIR"));
            uncommented(&std::fs::read_to_string(path).unwrap())
                .replace("enable_seqscan = off", "")
                .replace(":=", "")
        });
        let statements = texts.all().into_iter().map(|statement| &statement.sql);
        for sql in statements.chain(&functions) {
            let bare = ["<", ">", "+", "*", "%", " - ", "BETWEEN", " IN ", "DISTINCT", "::int", "::text"];
            let operators = ["=", "<=", ">=", "<>", "<", ">", "+", "-", "*", "%"];
            let left = operators.iter().fold(sql.clone(), |sql, operator| {
                sql.replace(&format!("OPERATOR(pg_catalog.{operator})"), "")
            });
            let left = left.replace("::integer", "").replace("pg_catalog.count(*)", "");
            assert!(!bare.iter().any(|operator| left.contains(operator)), "{left}");
            // Between these words it assigns.
            let (before, after) = left.split_once(" SET ").unwrap_or((&left, ""));
            let after = after.split_once(" WHERE ").map_or("", |(_, condition)| condition);
            assert!(!before.contains('=') && !after.contains('='), "{left}");
        }
    }
}
