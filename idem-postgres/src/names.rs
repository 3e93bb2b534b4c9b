//! [`Names`]: where the tables are; and the statements, which name them.
//!
//! INV-1: a name reaches SQL only between quotes, with the quotes in it doubled, or in a comment, which no name can end; the
//! body of a function ends with a tag that is in no name.
//! INV-2: every statement names its tables with their schema, and its functions, operators and types with `pg_catalog` (or
//! in SQL's own words, which mean those), so that what it does does not depend on a `search_path`, the user's own
//! transaction's included.

use crate::error::Cause;

/// Postgres cuts longer names off, silently.
const MAX_NAME_BYTES: usize = 63;
/// The longest of what is added to the name of the table: `_meta_pkey`, and the name of a check that Postgres makes.
const LONGEST_SUFFIX: usize = 16;

/// The names of the schema and of the table; what else there is begins with the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    schema: String,
    table: String,
}

impl Names {
    pub(crate) fn new(schema: &str, table: &str) -> Result<Self, Cause> {
        check("schema", schema, MAX_NAME_BYTES)?;
        check("table", table, MAX_NAME_BYTES - LONGEST_SUFFIX)?;
        Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// A text of `sql/`, with these names in the place of the default ones.
    pub(crate) fn apply(&self, sql: &str) -> String {
        let mut applied = String::with_capacity(sql.len() + 64);
        let mut rest = sql;
        // Each place is replaced once, so that no name is taken for another's placeholder.
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

    /// What stands between the dollars of a function's body, and is in none of the names that stand within.
    pub(crate) fn tag(&self) -> String {
        let mut tag = "body".to_owned();
        while [&self.schema, &self.table].iter().any(|name| name.contains(&tag)) {
            tag.push('_');
        }
        tag
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn quoted_schema(&self) -> String {
        quoted(&self.schema)
    }
}

fn check(what: &'static str, name: &str, at_most: usize) -> Result<(), Cause> {
    if name.is_empty() || name.len() > at_most || name.contains(char::is_control) {
        return Err(Cause::Name { what, at_most });
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
    fn the_names_stand_quoted_in_the_place_of_the_default_ones() {
        let names = Names::new("shop", "Idem").unwrap();
        assert_eq!(
            names.apply("UPDATE public.idem_record AS r, public.idem_record_meta WHERE idem_record_pkey;"),
            r#"UPDATE "shop"."Idem" AS r, "shop"."Idem_meta" WHERE "Idem_pkey";"#
        );
    }

    #[test]
    fn no_name_gets_out_of_its_quotes_or_is_taken_for_a_placeholder() {
        let names = Names::new("public.idem_record", "x\"; DROP TABLE idem_record; --").unwrap();
        assert_eq!(
            names.apply("TABLE public.idem_record"),
            r#"TABLE "public.idem_record"."x""; DROP TABLE idem_record; --""#
        );
    }

    #[test]
    fn a_name_that_postgres_would_cut_or_refuse_is_refused() {
        for (schema, table) in [("", "t"), ("s", ""), ("s\0", "t"), ("s", "t\0"), ("s\n", "t"), ("s", "t\r")]
        {
            assert!(Names::new(schema, table).is_err());
        }
        assert!(Names::new(&"s".repeat(63), &"t".repeat(47)).is_ok());
        assert!(Names::new(&"s".repeat(64), "t").is_err());
        assert!(Names::new("s", &"t".repeat(48)).is_err());
    }
}
