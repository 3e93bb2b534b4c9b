//! [`Stored`]: a response as it is kept and replayed, and its bytes.
//!
//! INV-1: the bytes of a version never change, and every version that was ever released is read for ever; the golden
//! files in `tests/golden/` are these bytes. What cannot be read is an error, and never a reason to run again.
//! INV-2: what belongs to one connection, to one instant or to one person's session is not kept (see [`is_kept`]).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use idem_core::Format;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::body::Collected;

/// The bytes of a response of this layer, in the first version of their format.
const FORMAT_V1: Format = Format { codec: 3, schema: 1 };

/// The first byte of version 1. The version stands in the bytes too, so that a file of them explains itself.
const VERSION_1: u8 = 1;

/// A response that is kept: status, headers, body and trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A stored response that this version cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Unreadable {
    #[error("the stored answer is not an HTTP response of a version that is known here, but {0}")]
    Format(Format),
    #[error("the stored answer is damaged")]
    Damaged,
}

/// Version 1: this head by postcard, then the body as it is, so that a replay shares the store's bytes.
///
/// Frozen: postcard has no field evolution, so that a change is a new version.
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

impl Stored {
    /// What is kept of a response.
    pub(crate) fn of(
        head: &http::response::Parts,
        body: Bytes,
        trailers: Option<&HeaderMap>,
        never_stored: &[HeaderName],
    ) -> Self {
        Self {
            status: head.status,
            headers: kept(&head.headers, never_stored),
            body,
            trailers: trailers.map(|trailers| kept(trailers, never_stored)),
        }
    }

    pub(crate) fn encode(&self) -> idem_core::StoredValue {
        let head = HeadV1 {
            status: self.status.as_u16(),
            headers: fields(&self.headers),
            trailers: self.trailers.as_ref().map(fields),
            body_bytes: self.body.len() as u64,
        };
        // Only a serializer that runs out of memory fails here: the head has no map and no sequence of unknown length.
        // An empty head would be `Damaged` to its readers, and still no reason to run again.
        let head = postcard::to_extend(&head, Vec::with_capacity(256)).unwrap_or_default();
        // Exactly as long as it is: the store keeps what it is given.
        let mut bytes = BytesMut::with_capacity(1 + head.len() + self.body.len());
        bytes.put_u8(VERSION_1);
        bytes.put_slice(&head);
        bytes.put_slice(&self.body);
        idem_core::StoredValue { format: FORMAT_V1, body: bytes.freeze() }
    }

    pub(crate) fn decode(response: &idem_core::StoredValue) -> Result<Self, Unreadable> {
        if response.format != FORMAT_V1 {
            return Err(Unreadable::Format(response.format));
        }
        let Some((&VERSION_1, encoded)) = response.body.split_first() else {
            return Err(Unreadable::Damaged);
        };
        let (head, body) =
            postcard::take_from_bytes::<HeadV1<'_>>(encoded).map_err(|_| Unreadable::Damaged)?;
        // A body that was cut, or has grown, is not what the handler answered.
        if head.body_bytes != body.len() as u64 {
            return Err(Unreadable::Damaged);
        }
        Ok(Self {
            status: StatusCode::from_u16(head.status).map_err(|_| Unreadable::Damaged)?,
            headers: header_map(&head.headers)?,
            body: response.body.slice(response.body.len() - body.len()..),
            trailers: head.trailers.as_deref().map(header_map).transpose()?,
        })
    }

    /// The head alone.
    pub(crate) fn head(&self) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        head.headers_mut().clone_from(&self.headers);
        head
    }

    pub(crate) fn into_response(self) -> Response<Collected> {
        let mut response = Response::new(Collected { bytes: self.body, trailers: self.trailers });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The headers that are kept. Their order within a name, their number and their bytes stay.
fn kept(headers: &HeaderMap, never_stored: &[HeaderName]) -> HeaderMap {
    // `Connection` names further headers that are meant for one connection alone.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| is_kept(name) && !never_stored.contains(name) && !named.contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Cookies and credentials are a session's, hop-by-hop headers a connection's and the date an instant's. `Trailer` is
/// kept: it describes the message, and over HTTP/1.1 trailers are not sent without it.
fn is_kept(name: &HeaderName) -> bool {
    const NOT_KEPT: [HeaderName; 10] = [
        SET_COOKIE,
        AUTHORIZATION,
        WWW_AUTHENTICATE,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        DATE,
        CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    const NOT_KEPT_EITHER: [&str; 5] =
        ["keep-alive", "proxy-connection", "set-cookie2", "authentication-info", "proxy-authentication-info"];
    !NOT_KEPT.contains(name) && !NOT_KEPT_EITHER.contains(&name.as_str())
}

fn fields(headers: &HeaderMap) -> Vec<FieldV1<'_>> {
    headers.iter().map(|(name, value)| FieldV1 { name: name.as_str(), value: value.as_bytes() }).collect()
}

fn header_map(fields: &[FieldV1<'_>]) -> Result<HeaderMap, Unreadable> {
    let field = |field: &FieldV1<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(field.value).ok()?))
    };
    fields.iter().map(field).collect::<Option<_>>().ok_or(Unreadable::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(headers: &[(&'static str, &[u8])]) -> http::response::Parts {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::CREATED;
        for (name, value) in headers {
            parts.headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        parts
    }

    /// A response with everything that a response can have.
    fn example() -> Stored {
        let head = parts(&[
            ("content-type", b"text/plain"),
            ("link", b"<a>"),
            ("x-bytes", b"\xff\t"),
            ("link", b"<b>"),
        ]);
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", HeaderValue::from_static("900150983cd24fb0"));
        Stored::of(&head, Bytes::from_static(b"\0created\xff"), Some(&trailers), &[])
    }

    #[test]
    fn a_response_comes_back_exactly_and_shares_the_stores_bytes() {
        let encoded = example().encode();
        let decoded = Stored::decode(&encoded).unwrap();
        assert_eq!(decoded, example());
        let links: Vec<_> = decoded.headers.get_all("link").iter().collect();
        assert_eq!(links, ["<a>", "<b>"]);
        assert!(encoded.body.as_ptr_range().contains(&decoded.body.as_ptr()));
    }

    #[test]
    fn no_trailers_are_not_empty_trailers() {
        let without = Stored { trailers: None, ..example() };
        let empty = Stored { trailers: Some(HeaderMap::new()), ..example() };
        assert_eq!(Stored::decode(&without.encode()).unwrap(), without);
        assert_eq!(Stored::decode(&empty.encode()).unwrap(), empty);
    }

    #[test]
    fn version_1_is_written_and_read_as_it_was_released() {
        let golden = include_bytes!("../tests/golden/response-v1.bin");
        let encoded = example().encode();
        assert_eq!(encoded.format, Format { codec: 3, schema: 1 });
        assert_eq!(encoded.body, golden[..], "{:?}", encoded.body);
        let released = idem_core::StoredValue { format: FORMAT_V1, body: Bytes::from_static(golden) };
        assert_eq!(Stored::decode(&released).unwrap(), example());
    }

    #[test]
    fn what_another_version_or_another_program_wrote_is_an_error() {
        let encoded = example().encode();
        let later = idem_core::StoredValue { format: Format { codec: 3, schema: 2 }, ..encoded.clone() };
        assert_eq!(Stored::decode(&later), Err(Unreadable::Format(later.format)));
        let plain = idem_core::StoredValue::bytes(encoded.body.clone());
        assert_eq!(Stored::decode(&plain), Err(Unreadable::Format(Format::BYTES)));
        let mut bytes = encoded.body.to_vec();
        bytes[0] = 2;
        let version_2 = idem_core::StoredValue { body: bytes.into(), ..encoded };
        assert_eq!(Stored::decode(&version_2), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_response_that_was_cut_or_has_grown_is_damaged() {
        let whole = example().encode();
        for length in 0..whole.body.len() {
            let cut = idem_core::StoredValue { body: whole.body.slice(..length), ..whole.clone() };
            assert_eq!(Stored::decode(&cut), Err(Unreadable::Damaged), "{length} bytes");
        }
        let grown = idem_core::StoredValue { body: [&whole.body[..], b"!"].concat().into(), ..whole };
        assert_eq!(Stored::decode(&grown), Err(Unreadable::Damaged));
    }

    #[test]
    fn sessions_credentials_connections_and_dates_are_not_kept() {
        let head = parts(&[
            ("set-cookie", b"session=1"),
            ("authorization", b"Bearer x"),
            ("www-authenticate", b"Basic"),
            ("proxy-authenticate", b"Basic"),
            ("date", b"Tue, 24 Nov 2026 00:00:00 GMT"),
            ("connection", b"close, X-Hop"),
            ("x-hop", b"1"),
            ("keep-alive", b"timeout=5"),
            ("transfer-encoding", b"chunked"),
            ("upgrade", b"h2c"),
            ("te", b"trailers"),
            ("x-trace", b"1"),
            ("content-encoding", b"gzip"),
            ("trailer", b"checksum"),
        ]);
        let trailers = head.headers.clone();
        let stored = Stored::of(&head, Bytes::new(), Some(&trailers), &[HeaderName::from_static("x-trace")]);
        let names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-encoding", "trailer"]);
        assert_eq!(stored.trailers, Some(stored.headers.clone()));
    }
}
