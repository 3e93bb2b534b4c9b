//! The bodies: [`RequestBody`] for the service inside of the layer, [`ResponseBody`] for the one outside.
//!
//! Both are either the body as it came, or one that the layer has read. Whether a frame was read before or is read now
//! makes no difference to who polls it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// What can go wrong with somebody else's body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// A request's body, as the service inside of the layer reads it: collected if the request is guarded, and as it
    /// came if it passes by.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    /// A response's body, as the layer answers: the handler's own, or one that was collected or stored.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = Projected]
    enum Inner<B> {
        Passed { #[pin] body: B },
        Read { body: Collected },
        // What was read before it was too much, and the rest.
        Partly { read: Option<Bytes>, rest: Pin<Box<B>> },
    }
}

/// A body that was read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl<B> RequestBody<B> {
    pub(crate) fn passed(body: B) -> Self {
        Self { inner: Inner::Passed { body } }
    }

    pub(crate) fn read(body: Collected) -> Self {
        Self { inner: Inner::Read { body } }
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn passed(body: B) -> Self {
        Self { inner: Inner::Passed { body } }
    }

    pub(crate) fn read(body: Collected) -> Self {
        Self { inner: Inner::Read { body } }
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::read(Collected { bytes, trailers: None })
    }

    pub(crate) fn partly(read: Bytes, rest: Pin<Box<B>>) -> Self {
        Self { inner: Inner::Partly { read: Some(read), rest } }
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body<Error: Into<BoxError>>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: Body<Error: Into<BoxError>>> Inner<B> {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            Projected::Passed { body } => body.poll_frame(cx).map(|frame| frame.map(as_bytes)),
            Projected::Read { body } => Poll::Ready(body.next_frame().map(Ok)),
            Projected::Partly { read, rest } => match read.take().filter(|read| !read.is_empty()) {
                Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
                None => rest.as_mut().poll_frame(cx).map(|frame| frame.map(as_bytes)),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passed { body } => body.is_end_stream(),
            Self::Read { body } => body.bytes.is_empty() && body.trailers.is_none(),
            Self::Partly { read, rest } => read.as_ref().is_none_or(Bytes::is_empty) && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed { body } => body.size_hint(),
            Self::Read { body } => {
                let mut hint = SizeHint::with_exact(body.bytes.len() as u64);
                if body.trailers.is_some() {
                    // A body of known length is sent with `Content-Length` over HTTP/1.1, and has no place for trailers.
                    hint = SizeHint::new();
                    hint.set_lower(body.bytes.len() as u64);
                }
                hint
            }
            Self::Partly { read, rest } => {
                let read = read.as_ref().map_or(0, Bytes::len) as u64;
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(read));
                }
                hint.set_lower(hint.lower().saturating_add(read));
                hint
            }
        }
    }
}

impl Collected {
    fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.bytes.is_empty() {
            return self.trailers.take().map(Frame::trailers);
        }
        Some(Frame::data(std::mem::take(&mut self.bytes)))
    }
}

/// A frame of another buffer as one of `Bytes`. `Bytes` themselves are not copied.
fn as_bytes<D: Buf, E: Into<BoxError>>(frame: Result<Frame<D>, E>) -> Result<Frame<Bytes>, BoxError> {
    frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn trailers() -> HeaderMap {
        [(http::HeaderName::from_static("sum"), http::HeaderValue::from_static("1"))].into_iter().collect()
    }

    #[tokio::test]
    async fn a_body_that_was_read_gives_its_bytes_and_then_its_trailers() {
        let body = Collected { bytes: Bytes::from_static(b"abc"), trailers: Some(trailers()) };
        let body = ResponseBody::<Full<Bytes>>::read(body);
        // Of known length it would be sent without them.
        assert_eq!((body.size_hint().lower(), body.size_hint().exact()), (3, None));
        assert!(!body.is_end_stream());
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers()));
        assert_eq!(collected.to_bytes(), "abc");
    }

    #[tokio::test]
    async fn trailers_alone_are_not_the_end_of_a_stream() {
        let body = Collected { bytes: Bytes::new(), trailers: Some(trailers()) };
        let body = RequestBody::<Full<Bytes>>::read(body);
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers()));
        assert!(ResponseBody::<Full<Bytes>>::full(Bytes::new()).is_end_stream());
    }

    #[tokio::test]
    async fn a_body_that_was_partly_read_goes_on_with_the_rest() {
        let rest = Box::pin(Full::new(Bytes::from_static(b"def")));
        let body = ResponseBody::partly(Bytes::from_static(b"abc"), rest);
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn a_body_that_passes_by_is_as_it_came() {
        let body = RequestBody::passed(Full::new(&b"abc"[..]));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }
}
