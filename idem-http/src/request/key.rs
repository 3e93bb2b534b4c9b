//! [`IdempotencyKey`]: the key that a client sent, with or without quotes.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use idem_core::MAX_PART_BYTES;
use sfv::{BareItem, Item, Parser};

/// The key that a client sent, without quotes: 1 to 255 printable ASCII characters.
///
/// The layer inserts it into the request's extensions. With the feature `axum` it is also an extractor. A request
/// without a key has none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Returns the key without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Does not show the key, which may hold personal data.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// What the headers of a request say about its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyHeader {
    Missing,
    Valid(IdempotencyKey),
    Invalid,
}

impl KeyHeader {
    /// Reads the key from the header `name`. Two such headers are invalid even if they are equal: a proxy may keep
    /// either of them.
    pub(crate) fn parse(headers: &HeaderMap, name: &HeaderName) -> Self {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Missing,
            (Some(value), None) => {
                unquoted(value).map_or(Self::Invalid, |key| Self::Valid(IdempotencyKey(Arc::from(key))))
            }
            (Some(_), Some(_)) => Self::Invalid,
        }
    }
}

/// Parses an RFC 8941 string, or the same characters without quotes, as most clients send them. Parameters of the string
/// are ignored, as RFC 8941 requires.
fn unquoted(value: &HeaderValue) -> Option<String> {
    // `to_str` fails on anything but printable ASCII and tabs.
    let value = value.to_str().ok()?.trim_matches([' ', '\t']);
    let key = if value.starts_with('"') {
        match Parser::new(value).parse::<Item>().ok()?.bare_item {
            BareItem::String(key) => String::from(key),
            _ => return None,
        }
    } else {
        let is_bare = |byte: u8| (0x20..=0x7e).contains(&byte) && byte != b'"';
        Some(value).filter(|value| value.bytes().all(is_bare))?.to_owned()
    };
    (1..=MAX_PART_BYTES).contains(&key.len()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&[u8]]) -> KeyHeader {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value).unwrap());
        }
        KeyHeader::parse(&headers, &name)
    }

    fn key(value: &str) -> KeyHeader {
        KeyHeader::Valid(IdempotencyKey(Arc::from(value)))
    }

    #[test]
    fn the_quoted_and_the_bare_form_are_the_same_key() {
        for form in
            [&b"\"8e03978e\""[..], b"8e03978e", b"  8e03978e\t", b" \"8e03978e\" ", b"\"8e03978e\";v=1"]
        {
            assert_eq!(parse(&[form]), key("8e03978e"), "{form:?}");
        }
    }

    #[test]
    fn every_character_of_a_key_counts() {
        assert_eq!(parse(&[b"a b,c;d=\\"]), key("a b,c;d=\\"));
        assert_eq!(parse(&[br#""a\"b\\c""#]), key(r#"a"b\c"#));
        assert_ne!(parse(&[b"KEY"]), parse(&[b"key"]));
        assert_eq!(parse(&[b"42"]), key("42"));
    }

    #[test]
    fn a_value_in_neither_form_is_invalid() {
        let too_long = [b'x'; 256];
        let malformed = [
            &b""[..],
            b"   ",
            b"\"\"",
            b"\"open",
            b"a\"b",
            b"\"a\" b",
            b"\"a\", \"b\"",
            b"tab\there",
            b"\"tab\there\"",
            "käse".as_bytes(),
            b"\xff",
            &too_long,
        ];
        for value in malformed {
            assert_eq!(parse(&[value]), KeyHeader::Invalid, "{value:?}");
        }
        assert_eq!(parse(&[format!("\"{}\"", "x".repeat(256)).as_bytes()]), KeyHeader::Invalid);
    }

    #[test]
    fn the_longest_key_has_255_bytes_without_its_quotes() {
        let longest = "x".repeat(255);
        assert_eq!(parse(&[longest.as_bytes()]), key(&longest));
        assert_eq!(parse(&[format!("\"{longest}\"").as_bytes()]), key(&longest));
    }

    #[test]
    fn two_headers_are_invalid_even_if_they_are_equal() {
        assert_eq!(parse(&[b"a", b"a"]), KeyHeader::Invalid);
        assert_eq!(parse(&[b"a", b"b"]), KeyHeader::Invalid);
        assert_eq!(parse(&[]), KeyHeader::Missing);
    }

    #[test]
    fn debug_does_not_show_the_key() {
        assert!(!format!("{:?}", parse(&[b"4242"])).contains("4242"));
    }
}
