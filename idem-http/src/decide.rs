//! [`Disposition`]: what a handler's response says about its request; and [`Replay`], whether it may be given again.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::response::Parts;

/// What is done with the request's record, by the head of the handler's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// The response is the request's answer: every duplicate is given it.
    Store,
    /// The request was executed; its response is not kept, and is sent as it comes. Duplicates are told so.
    NotKept,
    /// Nothing happened: the key is free at once.
    Release,
    /// Nobody knows what happened: the next request runs at once, and is told that it is a further attempt.
    Abandon,
}

impl Disposition {
    /// What the layer does by default.
    ///
    /// - 2xx, 3xx, and the 4xx that the same request gets again (400, 405, 406, 410, 411, 413, 414, 415, 422) are
    ///   stored.
    /// - 501, 503 and every other 4xx are released: they say that nothing happened, and may be different next time.
    /// - 500, 502, 504 and every other 5xx are abandoned: they do not prove that nothing happened.
    /// - 101 (an upgrade), and `text/event-stream`, are executed and not kept.
    pub fn of(response: &Parts) -> Self {
        match response.status.as_u16() {
            200..=399 if is_event_stream(response) => Self::NotKept,
            200..=399 | 400 | 405 | 406 | 410 | 411 | 413 | 414 | 415 | 422 => Self::Store,
            401..=499 | 501 | 503 => Self::Release,
            100..=199 => Self::NotKept,
            _ => Self::Abandon,
        }
    }

    /// What is really done: a response without an end is never collected, whatever a hook says.
    pub(crate) fn checked(self, response: &Parts) -> Self {
        let has_no_end = response.status == StatusCode::SWITCHING_PROTOCOLS || is_event_stream(response);
        if self == Self::Store && has_no_end { Self::NotKept } else { self }
    }
}

/// Whether a stored response may be given to this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// It may.
    Allow,
    /// It may not: the client gets 403, and the record stays.
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
            assert_eq!(Disposition::of(&head(status)), expected, "{status}");
        }
    }

    #[test]
    fn a_response_without_an_end_is_never_collected() {
        let mut stream = head(200);
        stream.headers.insert(CONTENT_TYPE, HeaderValue::from_static("Text/Event-Stream; charset=utf-8"));
        assert_eq!(Disposition::of(&stream), Disposition::NotKept);
        assert_eq!(Disposition::Store.checked(&stream), Disposition::NotKept);
        assert_eq!(Disposition::Release.checked(&stream), Disposition::Release);
        assert_eq!(Disposition::Store.checked(&head(101)), Disposition::NotKept);
        assert_eq!(Disposition::Store.checked(&head(200)), Disposition::Store);
    }
}
