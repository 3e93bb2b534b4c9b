//! [`Codec`]: how a handler's value becomes the bytes of a [`StoredValue`], and back.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::{Format, StoredValue};

/// How the values of handlers are written. Every stored value names its codec, so after a change of codec an old value
/// is an error and never a wrong value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Codec {
    /// JSON, the default. It is self-describing: a value whose type has changed is an error in most cases.
    #[default]
    Json,
    /// postcard: compact and fast, but not self-describing. It reads the bytes of one type as another of similar shape
    /// without an error (`{u32, String}` as `{u64, String}`), so raise the engine's `schema` number with every change of
    /// the type.
    #[cfg(feature = "postcard")]
    Postcard,
}

impl Codec {
    /// The format of the values that this codec writes with this schema number.
    pub fn format(self, schema: u32) -> Format {
        let codec = match self {
            Self::Json => 1,
            #[cfg(feature = "postcard")]
            Self::Postcard => 2,
        };
        Format { codec, schema }
    }

    /// Writes a value.
    pub fn encode<T: Serialize>(self, schema: u32, value: &T) -> Result<StoredValue, CodecError> {
        let body = match self {
            Self::Json => serde_json::to_vec(value).map_err(|source| CodecError::Encode(source.into()))?,
            #[cfg(feature = "postcard")]
            Self::Postcard => {
                postcard::to_stdvec(value).map_err(|source| CodecError::Encode(source.into()))?
            }
        };
        Ok(StoredValue { format: self.format(schema), body: body.into() })
    }

    /// Reads a value. Fails if the format is another one, before it reads any bytes, and if bytes are left over.
    pub fn decode<T: DeserializeOwned>(self, schema: u32, stored: &StoredValue) -> Result<T, CodecError> {
        check_format(self.format(schema), stored.format)?;
        match self {
            Self::Json => {
                serde_json::from_slice(&stored.body).map_err(|source| CodecError::Decode(source.into()))
            }
            #[cfg(feature = "postcard")]
            Self::Postcard => match postcard::take_from_bytes(&stored.body) {
                Ok((value, [])) => Ok(value),
                Ok((_, left_over)) => {
                    Err(CodecError::Decode(format!("{} bytes are left over", left_over.len()).into()))
                }
                Err(source) => Err(CodecError::Decode(source.into())),
            },
        }
    }
}

/// Fails if a stored value has another format than expected.
pub(crate) fn check_format(expected: Format, found: Format) -> Result<(), CodecError> {
    if expected == found { Ok(()) } else { Err(CodecError::FormatMismatch { expected, found }) }
}

/// A handler's value could not be written, or a stored value could not be read. The handler does not run again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The handler's value could not be written. The run is recorded as "not kept", so that no duplicate runs.
    #[error("the handler's value could not be encoded, so its answer was not kept")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stored bytes are not a value of the expected type.
    #[error(
        "the stored value could not be decoded; raise the engine's schema number when a stored type changes"
    )]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stored value was written by another codec, or with another schema number.
    #[error(
        "the stored value has the format ({found}) and this engine reads ({expected}); \
         read it with the engine that wrote it, or wait until it expires"
    )]
    FormatMismatch {
        /// What this engine reads.
        expected: Format,
        /// What the value has.
        found: Format,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let value = ("receipt".to_owned(), vec![1_u64, 2]);
        let stored = Codec::Json.encode(7, &value).unwrap();
        assert_eq!(stored.format, Format { codec: 1, schema: 7 });
        assert_eq!(Codec::Json.decode::<(String, Vec<u64>)>(7, &stored).unwrap(), value);
    }

    #[test]
    fn another_schema_or_codec_is_refused_before_its_bytes_are_read() {
        let stored = Codec::Json.encode(7, &1_u32).unwrap();
        for wrong in [
            Codec::Json.decode::<u32>(8, &stored).unwrap_err(),
            Codec::Json.decode::<u32>(0, &StoredValue::bytes("1")).unwrap_err(),
        ] {
            assert!(matches!(wrong, CodecError::FormatMismatch { .. }), "{wrong}");
        }
        let said = Codec::Json.decode::<u32>(8, &stored).unwrap_err().to_string();
        assert!(said.contains("(json, schema 7)") && said.contains("(json, schema 8)"), "{said}");
    }

    #[test]
    fn bytes_of_another_type_are_an_error() {
        let stored = Codec::Json.encode(0, &"text").unwrap();
        assert!(matches!(Codec::Json.decode::<u32>(0, &stored), Err(CodecError::Decode(_))));
        let left_over = StoredValue { body: "1 2".into(), ..stored };
        assert!(matches!(Codec::Json.decode::<u32>(0, &left_over), Err(CodecError::Decode(_))));
    }

    #[test]
    fn a_value_that_json_cannot_hold_is_an_error() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Codec::Json.encode(0, &map), Err(CodecError::Encode(_))));
    }

    #[cfg(feature = "postcard")]
    #[test]
    fn postcard_refuses_left_over_bytes() {
        let stored = Codec::Postcard.encode(3, &(1_u8, 2_u8)).unwrap();
        assert_eq!(stored.format, Format { codec: 2, schema: 3 });
        assert_eq!(Codec::Postcard.decode::<(u8, u8)>(3, &stored).unwrap(), (1, 2));
        assert!(matches!(Codec::Postcard.decode::<u8>(3, &stored), Err(CodecError::Decode(_))));
        assert!(matches!(Codec::Postcard.decode::<(u8, u8, u8)>(3, &stored), Err(CodecError::Decode(_))));
    }
}
