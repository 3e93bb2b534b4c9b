//! [`Disposition`]: what happens to a handler's response; and [`Replay`]: whether a request may get a stored one.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::response::Parts;

/// What the layer does with a handler's response and with the request's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// Store the response. Every duplicate gets it.
    Store,
    /// Record that the request was executed, and send the response without storing it. Duplicates get a 409.
    NotKept,
    /// Nothing happened: free the key. The next request runs at once, as a first attempt.
    Release,
    /// The outcome is unknown: free the key. The next request runs at once and can see that it is a further attempt.
    Abandon,
}

impl Disposition {
    /// The layer's default.
    ///
    /// - 2xx, 3xx, and the 4xx that the same request would get again (400, 405, 406, 410, 411, 413, 414, 415, 422) are
    ///   stored.
    /// - All other 4xx, 501 and 503 are released: they say that nothing happened, and the next response may differ.
    /// - All other 5xx are abandoned: they do not prove that nothing happened.
    /// - 101 (an upgrade) and `text/event-stream` are not kept.
    pub fn default_for(response: &Parts) -> Self {
        match response.status.as_u16() {
            200..=399 if is_event_stream(response) => Self::NotKept,
            200..=399 | 400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 422 => Self::Store,
            401..=499 | 501 | 503 => Self::Release,
            100..=199 => Self::NotKept,
            _ => Self::Abandon,
        }
    }

    /// The disposition that is applied: a response without an end is never stored, whatever the service's function says.
    pub(crate) fn checked(self, response: &Parts) -> Self {
        let has_no_end = response.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream(response);
        if self == Self::Store && has_no_end { Self::NotKept } else { self }
    }
}

/// Whether a request may get a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// The client gets the stored response.
    Allow,
    /// The client gets 403. The record stays.
    Refuse,
}

fn is_event_stream(response: &Parts) -> bool {
    let content_type = response.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let media_type = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    fn head(status: u16) -> Parts {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(status).unwrap();
        parts
    }

    #[test]
    fn every_status_has_the_disposition_of_the_table() {
        for status in 100..=999 {
            let expected = match status {
                100..=199 => Disposition::NotKept,
                200..=399 | 400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 422 => Disposition::Store,
                400..=499 | 501 | 503 => Disposition::Release,
                _ => Disposition::Abandon,
            };
            assert_eq!(Disposition::default_for(&head(status)), expected, "{status}");
        }
    }

    #[test]
    fn a_response_without_an_end_is_never_stored() {
        let mut stream = head(200);
        stream.headers.insert(CONTENT_TYPE, HeaderValue::from_static("Text/Event-Stream; charset=utf-8"));
        assert_eq!(Disposition::default_for(&stream), Disposition::NotKept);
        assert_eq!(Disposition::Store.checked(&stream), Disposition::NotKept);
        assert_eq!(Disposition::Release.checked(&stream), Disposition::Release);
        assert_eq!(Disposition::Store.checked(&head(101)), Disposition::NotKept);
        assert_eq!(Disposition::Store.checked(&head(200)), Disposition::Store);
    }
}
