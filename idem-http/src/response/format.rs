//! The bytes of a [`StoredResponse`].
//!
//! INV-1: the bytes of a version never change, and every released version can be read forever. The golden files in
//! `tests/golden/` hold them. A value that cannot be read is an error, and never a reason to run the handler again.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use idem_core::{Format, StoredValue};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::response::stored::StoredResponse;

/// The format of a stored response, version 1.
const FORMAT_V1: Format = Format { codec: 3, schema: 1 };

/// The first byte of version 1. The bytes name their version too, so that they can be read without the format.
const VERSION_1: u8 = 1;

/// A stored response that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DecodeError {
    #[error("the stored value has the format `{0}`, which this version of idem-http cannot read")]
    Format(Format),
    #[error("the stored response is damaged")]
    Damaged,
}

/// The head in version 1, encoded with postcard. The body follows it unchanged, so that a replay shares the store's
/// bytes.
///
/// Frozen: postcard cannot add or remove fields, so any change needs a new version.
#[derive(Serialize, Deserialize)]
struct HeadV1<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<FieldV1<'a>>,
    trailers: Option<Vec<FieldV1<'a>>>,
    body_bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct FieldV1<'a> {
    name: &'a str,
    #[serde(with = "serde_bytes")]
    value: &'a [u8],
}

impl StoredResponse {
    pub(crate) fn encode(&self) -> StoredValue {
        let head = HeadV1 {
            status: self.status.as_u16(),
            headers: fields(&self.headers),
            trailers: self.trailers.as_ref().map(fields),
            body_bytes: self.body.len() as u64,
        };
        // The head has no map and no sequence of unknown length, so only a lack of memory can make this fail. An empty
        // head is `Damaged` when it is read.
        let head = postcard::to_extend(&head, Vec::with_capacity(256)).unwrap_or_default();
        // The exact capacity, because the store keeps the whole allocation.
        let mut bytes = BytesMut::with_capacity(1 + head.len() + self.body.len());
        bytes.put_u8(VERSION_1);
        bytes.put_slice(&head);
        bytes.put_slice(&self.body);
        StoredValue { format: FORMAT_V1, body: bytes.freeze() }
    }

    pub(crate) fn decode(value: &StoredValue) -> Result<Self, DecodeError> {
        if value.format != FORMAT_V1 {
            return Err(DecodeError::Format(value.format));
        }
        let Some((&VERSION_1, encoded)) = value.body.split_first() else {
            return Err(DecodeError::Damaged);
        };
        let (head, body) =
            postcard::take_from_bytes::<HeadV1<'_>>(encoded).map_err(|_| DecodeError::Damaged)?;
        if head.body_bytes != body.len() as u64 {
            return Err(DecodeError::Damaged);
        }
        Ok(Self {
            status: StatusCode::from_u16(head.status).map_err(|_| DecodeError::Damaged)?,
            headers: header_map(&head.headers)?,
            body: value.body.slice(value.body.len() - body.len()..),
            trailers: head.trailers.as_deref().map(header_map).transpose()?,
        })
    }
}

fn fields(headers: &HeaderMap) -> Vec<FieldV1<'_>> {
    headers.iter().map(|(name, value)| FieldV1 { name: name.as_str(), value: value.as_bytes() }).collect()
}

fn header_map(fields: &[FieldV1<'_>]) -> Result<HeaderMap, DecodeError> {
    let field = |field: &FieldV1<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    };
    fields.iter().map(field).collect::<Option<_>>().ok_or(DecodeError::Damaged)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A response with everything that a response can have.
    fn example() -> StoredResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("content-type", &b"text/plain"[..]), ("link", b"<a>"), ("x-bytes", b"\xff\t"), ("link", b"<b>")]
        {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", HeaderValue::from_static("900150983cd24fb0"));
        StoredResponse {
            status: StatusCode::CREATED,
            headers,
            body: Bytes::from_static(b"\0created\xff"),
            trailers: Some(trailers),
        }
    }

    #[test]
    fn a_response_comes_back_exactly_and_shares_the_stores_bytes() {
        let encoded = example().encode();
        let decoded = StoredResponse::decode(&encoded).unwrap();
        assert_eq!(decoded, example());
        let links: Vec<_> = decoded.headers.get_all("link").iter().collect();
        assert_eq!(links, ["<a>", "<b>"]);
        assert!(encoded.body.as_ptr_range().contains(&decoded.body.as_ptr()));
    }

    #[test]
    fn no_trailers_are_not_empty_trailers() {
        let without = StoredResponse { trailers: None, ..example() };
        let empty = StoredResponse { trailers: Some(HeaderMap::new()), ..example() };
        assert_eq!(StoredResponse::decode(&without.encode()).unwrap(), without);
        assert_eq!(StoredResponse::decode(&empty.encode()).unwrap(), empty);
    }

    #[test]
    fn version_1_is_written_and_read_as_it_was_released() {
        let golden = include_bytes!("../../tests/golden/response-v1.bin");
        let encoded = example().encode();
        assert_eq!(encoded.format, Format { codec: 3, schema: 1 });
        assert_eq!(encoded.body, golden[..], "{:?}", encoded.body);
        let released = StoredValue { format: FORMAT_V1, body: Bytes::from_static(golden) };
        assert_eq!(StoredResponse::decode(&released).unwrap(), example());
    }

    #[test]
    fn a_value_of_another_version_or_program_is_an_error() {
        let encoded = example().encode();
        let later = StoredValue { format: Format { codec: 3, schema: 2 }, ..encoded.clone() };
        assert_eq!(StoredResponse::decode(&later), Err(DecodeError::Format(later.format)));
        let plain = StoredValue::bytes(encoded.body.clone());
        assert_eq!(StoredResponse::decode(&plain), Err(DecodeError::Format(Format::BYTES)));
        let mut bytes = encoded.body.to_vec();
        bytes[0] = 2;
        let version_2 = StoredValue { body: bytes.into(), ..encoded };
        assert_eq!(StoredResponse::decode(&version_2), Err(DecodeError::Damaged));
    }

    #[test]
    fn a_response_that_was_cut_or_has_grown_is_damaged() {
        let whole = example().encode();
        for length in 0..whole.body.len() {
            let cut = StoredValue { body: whole.body.slice(..length), ..whole.clone() };
            assert_eq!(StoredResponse::decode(&cut), Err(DecodeError::Damaged), "{length} bytes");
        }
        let grown = StoredValue { body: [&whole.body[..], b"!"].concat().into(), ..whole };
        assert_eq!(StoredResponse::decode(&grown), Err(DecodeError::Damaged));
    }
}
