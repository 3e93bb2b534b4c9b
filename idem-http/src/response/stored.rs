//! [`StoredResponse`]: the part of a response that is stored and replayed.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, DATE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, Response, StatusCode, response};

use crate::body::read::Buffered;

/// A stored response: status, headers, body and trailers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl StoredResponse {
    /// Takes what is stored of a response. The body's bytes are shared.
    pub(crate) fn new(head: &response::Parts, body: &Buffered, exclude: &[HeaderName]) -> Self {
        Self {
            status: head.status,
            headers: stored_headers(&head.headers, exclude),
            body: body.bytes.clone(),
            trailers: body.trailers.as_ref().map(|trailers| stored_headers(trailers, exclude)),
        }
    }

    /// The status and the headers.
    pub(crate) fn head(&self) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = self.status;
        head.headers_mut().clone_from(&self.headers);
        head
    }

    pub(crate) fn into_response(self) -> Response<Buffered> {
        let mut response = Response::new(Buffered { bytes: self.body, trailers: self.trailers });
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The headers that are stored: their bytes, their number, and their order within a name stay the same.
fn stored_headers(headers: &HeaderMap, exclude: &[HeaderName]) -> HeaderMap {
    // `Connection` names further headers that belong to one connection.
    let of_the_connection: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| {
            !is_never_stored(name) && !exclude.contains(name) && !of_the_connection.contains(name)
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Cookies and credentials belong to one session, hop-by-hop headers to one connection, and `Date` to one instant.
/// `Trailer` is stored: without it, trailers are not sent over HTTP/1.1.
fn is_never_stored(name: &HeaderName) -> bool {
    const KNOWN: [HeaderName; 10] = [
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
    const OTHERS: [&str; 5] =
        ["keep-alive", "proxy-connection", "set-cookie2", "authentication-info", "proxy-authentication-info"];
    KNOWN.contains(name) || OTHERS.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn sessions_credentials_connections_and_dates_are_not_stored() {
        let (mut head, ()) = Response::new(()).into_parts();
        for (name, value) in [
            ("set-cookie", "session=1"),
            ("authorization", "Bearer x"),
            ("www-authenticate", "Basic"),
            ("proxy-authenticate", "Basic"),
            ("date", "Tue, 24 Nov 2026 00:00:00 GMT"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("x-trace", "1"),
            ("content-encoding", "gzip"),
            ("trailer", "checksum"),
        ] {
            head.headers.append(name, HeaderValue::from_static(value));
        }
        let body = Buffered { bytes: Bytes::new(), trailers: Some(head.headers.clone()) };
        let stored = StoredResponse::new(&head, &body, &[HeaderName::from_static("x-trace")]);
        let names: Vec<_> = stored.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-encoding", "trailer"]);
        assert_eq!(stored.trailers, Some(stored.headers.clone()));
    }
}
