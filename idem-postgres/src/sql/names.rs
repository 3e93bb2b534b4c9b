//! [`Names`]: the names of the schema and the tables, and how they get into SQL.
//!
//! INV-1: a name reaches SQL only in quotes, with the quotes inside it doubled, or in a comment, which no name can end. The
//! body of a function ends with a tag that no name contains.
//! INV-2: every statement qualifies its tables with their schema, and its functions, operators and types with `pg_catalog`
//! (or uses keywords of SQL, which mean those). No `search_path` changes what it does, also not in the user's own
//! transaction.

use thiserror::Error;

/// Postgres truncates longer names silently.
const MAX_NAME_BYTES: usize = 63;
/// The longest suffix of the table's name: `_meta_pkey`, and the name that Postgres gives to a check.
const LONGEST_SUFFIX: usize = 16;

/// The names of the schema and of the table of records. The names of all other objects begin with the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl Names {
    pub(crate) fn new(schema: &str, table: &str) -> Result<Self, InvalidName> {
        check("schema", schema, MAX_NAME_BYTES)?;
        check("table", table, MAX_NAME_BYTES - LONGEST_SUFFIX)?;
        Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// Replaces the default names in a text of `sql/` or `schema/`.
    pub(crate) fn apply(&self, sql: &str) -> String {
        let mut applied = String::with_capacity(sql.len() + 64);
        let mut rest = sql;
        // Each place is replaced once, so that a name that contains the default name is not replaced again.
        while let Some(at) = rest.find("idem_record") {
            let (before, found) = rest.split_at(at);
            let end = found.find(|c: char| c != '_' && !c.is_ascii_lowercase()).unwrap_or(found.len());
            let name = quoted(&format!("{}{}", self.table, &found["idem_record".len()..end]));
            if let Some(before) = before.strip_suffix("public.") {
                applied.push_str(before);
                applied.push_str(&quoted(&self.schema));
                applied.push('.');
            } else {
                applied.push_str(before);
            }
            applied.push_str(&name);
            rest = &found[end..];
        }
        applied.push_str(rest);
        applied
    }

    /// A tag for the dollar quotes of a function's body: neither name contains it.
    pub(crate) fn tag(&self) -> String {
        let mut tag = "body".to_owned();
        while [&self.schema, &self.table].iter().any(|name| name.contains(&tag)) {
            tag.push('_');
        }
        tag
    }

    pub(crate) fn quoted_schema(&self) -> String {
        quoted(&self.schema)
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the name of the {what} must have 1 to {max_bytes} bytes and no control characters")]
pub(crate) struct InvalidName {
    what: &'static str,
    max_bytes: usize,
}

fn check(what: &'static str, name: &str, max_bytes: usize) -> Result<(), InvalidName> {
    if name.is_empty() || name.len() > max_bytes || name.contains(char::is_control) {
        return Err(InvalidName { what, max_bytes });
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_replace_the_default_ones() {
        let names = Names::new("shop", "Idem").unwrap();
        assert_eq!(
            names.apply("UPDATE public.idem_record AS r, public.idem_record_meta WHERE idem_record_pkey;"),
            r#"UPDATE "shop"."Idem" AS r, "shop"."Idem_meta" WHERE "Idem_pkey";"#
        );
    }

    #[test]
    fn no_name_escapes_its_quotes_or_is_replaced_again() {
        let names = Names::new("public.idem_record", "x\"; DROP TABLE idem_record; --").unwrap();
        assert_eq!(
            names.apply("TABLE public.idem_record"),
            r#"TABLE "public.idem_record"."x""; DROP TABLE idem_record; --""#
        );
    }

    #[test]
    fn a_name_that_postgres_would_truncate_or_refuse_is_refused() {
        for (schema, table) in [("", "t"), ("s", ""), ("s\0", "t"), ("s", "t\0"), ("s\n", "t"), ("s", "t\r")]
        {
            assert!(Names::new(schema, table).is_err());
        }
        assert!(Names::new(&"s".repeat(63), &"t".repeat(47)).is_ok());
        assert!(Names::new(&"s".repeat(64), "t").is_err());
        assert!(Names::new("s", &"t".repeat(48)).is_err());
    }
}
