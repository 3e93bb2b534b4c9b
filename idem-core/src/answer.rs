//! [`Answer`] and [`StoredValue`]: what is kept of a finished run, and how its bytes are read.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How the bytes of a [`StoredValue`] are read: which codec wrote them, and which version of the user's type.
///
/// Reading a value with another format than it was written with is an error, and never gives a wrong value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Format {
    /// Which codec wrote the bytes.
    pub codec: u8,
    /// The user's version number for the type of the value.
    pub schema: u32,
}

impl Format {
    /// Plain bytes, without a codec.
    pub const BYTES: Self = Self { codec: 0, schema: 0 };
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.codec {
            0 => f.write_str("bytes")?,
            1 => f.write_str("json")?,
            2 => f.write_str("postcard")?,
            3 => f.write_str("http")?,
            other => write!(f, "codec {other}")?,
        }
        write!(f, ", schema {}", self.schema)
    }
}

/// A handler's answer as it is stored: bytes, and how to read them. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StoredValue {
    /// How the body is read.
    pub format: Format,
    /// The bytes. They may be empty, which is not the same as [`Answer::NotKept`].
    pub body: Bytes,
}

impl StoredValue {
    /// A value of plain bytes ([`Format::BYTES`]).
    pub fn bytes(body: impl Into<Bytes>) -> Self {
        Self { format: Format::BYTES, body: body.into() }
    }
}

/// Shows the format and the length, never the body: it may be confidential.
impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredValue({}, {} bytes)", self.format, self.body.len())
    }
}

/// What is kept of a finished run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The value that every duplicate gets.
    Value(StoredValue),
    /// The run finished, but its value was not kept, for example because it was too large. Duplicates get `NotKept`,
    /// and the handler does not run again.
    NotKept,
}

impl Answer {
    /// How many bytes the answer holds; 0 for [`NotKept`](Self::NotKept).
    pub fn len(&self) -> usize {
        match self {
            Self::Value(value) => value.body.len(),
            Self::NotKept => 0,
        }
    }

    /// Whether the answer holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<StoredValue> for Answer {
    fn from(value: StoredValue) -> Self {
        Self::Value(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_format_and_the_length_but_not_the_body() {
        assert_eq!(format!("{:?}", StoredValue::bytes("secret")), "StoredValue(bytes, schema 0, 6 bytes)");
        let of = |codec| Format { codec, schema: 2 }.to_string();
        assert_eq!(
            [0, 1, 2, 3, 9].map(of),
            [
                "bytes, schema 2",
                "json, schema 2",
                "postcard, schema 2",
                "http, schema 2",
                "codec 9, schema 2"
            ]
        );
    }

    #[test]
    fn an_answer_without_bytes_or_not_kept_is_empty_and_no_other() {
        assert!(Answer::NotKept.is_empty() && Answer::Value(StoredValue::bytes("")).is_empty());
        let four = Answer::Value(StoredValue::bytes("four"));
        assert_eq!((four.len(), four.is_empty()), (4, false));
    }
}
