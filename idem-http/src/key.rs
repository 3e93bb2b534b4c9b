//! [`IdempotencyKey`]: the key that a client sent, in either of its two forms.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use idem_core::MAX_PART_BYTES;
use sfv::{BareItem, Item, Parser};

/// The key that a client sent, without quotes: 1 to 255 printable ASCII characters.
///
/// The layer puts it into the request's extensions; with the feature `axum` it is an extractor too. A request that runs
/// without a key (or in the fingerprint branch) has none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The key, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Shows nothing of the key: it may hold personal data.
impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// What the headers of a request say about its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Nothing,
    Key(IdempotencyKey),
    Invalid,
}

/// Reads the key from the headers.
///
/// Two headers are invalid also if they are equal: which of them a proxy keeps is not ours to guess.
pub(crate) fn read(headers: &HeaderMap, name: &HeaderName) -> Sent {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Sent::Nothing,
        (Some(value), None) => {
            unquoted(value).map_or(Sent::Invalid, |key| Sent::Key(IdempotencyKey(Arc::from(key))))
        }
        (Some(_), Some(_)) => Sent::Invalid,
    }
}

/// The key in a header's value: an RFC 8941 string, or the same characters without quotes, which is what most clients
/// send. Parameters of the string are ignored, as RFC 8941 has it.
fn unquoted(value: &HeaderValue) -> Option<String> {
    // Fails on whatever is not printable ASCII or a tab.
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

    fn sent(values: &[&[u8]]) -> Sent {
        let name = HeaderName::from_static("idempotency-key");
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers, &name)
    }

    fn key(value: &str) -> Sent {
        Sent::Key(IdempotencyKey(Arc::from(value)))
    }

    #[test]
    fn the_quoted_and_the_bare_form_name_the_same_key() {
        for form in
            [&b"\"8e03978e\""[..], b"8e03978e", b"  8e03978e\t", b" \"8e03978e\" ", b"\"8e03978e\";v=1"]
        {
            assert_eq!(sent(&[form]), key("8e03978e"), "{form:?}");
        }
    }

    #[test]
    fn characters_count_as_they_are() {
        assert_eq!(sent(&[b"a b,c;d=\\"]), key("a b,c;d=\\"));
        assert_eq!(sent(&[br#""a\"b\\c""#]), key(r#"a"b\c"#));
        assert_ne!(sent(&[b"KEY"]), sent(&[b"key"]));
        assert_eq!(sent(&[b"42"]), key("42"));
    }

    #[test]
    fn what_is_neither_form_is_invalid() {
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
            assert_eq!(sent(&[value]), Sent::Invalid, "{value:?}");
        }
        assert_eq!(sent(&[format!("\"{}\"", "x".repeat(256)).as_bytes()]), Sent::Invalid);
    }

    #[test]
    fn the_longest_key_has_255_bytes_without_its_quotes() {
        let longest = "x".repeat(255);
        assert_eq!(sent(&[longest.as_bytes()]), key(&longest));
        assert_eq!(sent(&[format!("\"{longest}\"").as_bytes()]), key(&longest));
    }

    #[test]
    fn two_headers_are_invalid_even_if_they_agree() {
        assert_eq!(sent(&[b"a", b"a"]), Sent::Invalid);
        assert_eq!(sent(&[b"a", b"b"]), Sent::Invalid);
        assert_eq!(sent(&[]), Sent::Nothing);
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert!(!format!("{:?}", sent(&[b"4242"])).contains("4242"));
    }
}
