//! [`Sql`]: every statement of the store, with the types of its parameters and the names of the tables.

use tokio_postgres::types::Type;

use super::names::Names;
use super::types::Parameter;

#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// Of its parameters.
    pub(crate) types: &'static [Type],
}

impl Statement {
    /// The parameters with the types that this statement declares for them.
    pub(crate) fn with_types<'a>(&self, parameters: &[Parameter<'a>]) -> Vec<(Parameter<'a>, Type)> {
        parameters.iter().copied().zip(self.types.iter().cloned()).collect()
    }
}

macro_rules! statements {
    ($($name:ident [$($ty:ident),*]),+ $(,)?) => {
        /// The statements of `sql/`, one field for each file.
        #[derive(Debug)]
        pub(crate) struct Sql {
            $(pub(crate) $name: Statement),+
        }

        impl Sql {
            pub(crate) fn new(names: &Names) -> Self {
                Self { $($name: Statement {
                    sql: names.apply(&without_comments(include_str!(concat!(stringify!($name), ".sql")))),
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
    find [BYTEA],
    reserve [BYTEA, BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
    insert [BYTEA, BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
    claim [BYTEA, BYTEA, BYTEA, INTERVAL, INTERVAL],
    clamp [BYTEA],
    renew [BYTEA, BYTEA, INTERVAL, BYTEA],
    complete [BYTEA, BYTEA, CHAR, INT2, INT8, BYTEA, INTERVAL, INT8],
    why_not_completed [BYTEA, BYTEA, CHAR, INT2, INT8, BYTEA],
    release [BYTEA, BYTEA, INTERVAL],
    insert_tombstone [BYTEA, BYTEA, BYTEA, BYTEA, INTERVAL],
    write_tombstone [BYTEA, BYTEA, INTERVAL],
    abandon [BYTEA, BYTEA],
    sweep [INT8],
    due [],
    lock_record [BYTEA, BYTEA],
    current_transaction [],
    transaction_status [INT8],
    terminate_session [INT4, INT8],
    server [TEXT, TEXT, TEXT],
    schema_version [TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT],
    client_check [],
}

/// Removes the comments, so that the server need not parse them with every statement.
fn without_comments(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_operator_depends_on_the_search_path() {
        let texts = Sql::new(&Names::new("public", "idem_record").unwrap());
        let functions = ["reserve", "insert", "complete"].map(|function| {
            let path = format!("{}/src/schema/v1/{function}.sql", env!("CARGO_MANIFEST_DIR"));
            without_comments(&std::fs::read_to_string(path).unwrap())
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
            // Between SET and WHERE, `=` assigns.
            let (before, after) = left.split_once(" SET ").unwrap_or((&left, ""));
            let after = after.split_once(" WHERE ").map_or("", |(_, condition)| condition);
            assert!(!before.contains('=') && !after.contains('='), "{left}");
        }
    }
}
