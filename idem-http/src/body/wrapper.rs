//! [`RequestBody`] for the inner service, and [`ResponseBody`] for the client.
//!
//! Each is either the original body, or one that the layer has read. The consumer sees no difference.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::body::read::{BoxError, Buffered};

pin_project! {
    /// The request body that the inner service gets: in memory if the request is guarded, otherwise the original body.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    /// The response body that the layer returns: the handler's body, or one that was read or stored.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = InnerProjection]
    enum Inner<B> {
        Unread { #[pin] body: B },
        Buffered { body: Buffered },
        // A body that is larger than the limit: the part that was read, and the rest.
        Partial { prefix: Bytes, rest: Pin<Box<B>> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn partial(prefix: Bytes, rest: Pin<Box<B>>) -> Self {
        Self { inner: Inner::Partial { prefix, rest } }
    }
}

macro_rules! wraps_a_body {
    ($wrapper:ident) => {
        impl<B> $wrapper<B> {
            pub(crate) fn unread(body: B) -> Self {
                Self { inner: Inner::Unread { body } }
            }

            pub(crate) fn buffered(body: Buffered) -> Self {
                Self { inner: Inner::Buffered { body } }
            }
        }

        impl<B: Body<Error: Into<BoxError>>> Body for $wrapper<B> {
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
    };
}

wraps_a_body!(RequestBody);
wraps_a_body!(ResponseBody);

impl<B: Body<Error: Into<BoxError>>> Inner<B> {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project() {
            InnerProjection::Unread { body } => body.poll_frame(cx).map(|frame| frame.map(into_bytes)),
            InnerProjection::Buffered { body } => Poll::Ready(body.next_frame().map(Ok)),
            InnerProjection::Partial { prefix, .. } if !prefix.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(prefix)))))
            }
            InnerProjection::Partial { rest, .. } => {
                rest.as_mut().poll_frame(cx).map(|frame| frame.map(into_bytes))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unread { body } => body.is_end_stream(),
            Self::Buffered { body } => body.is_end_stream(),
            Self::Partial { prefix, rest } => prefix.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unread { body } => body.size_hint(),
            Self::Buffered { body } => body.size_hint(),
            Self::Partial { prefix, rest } => {
                let mut hint = rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(prefix.len() as u64));
                }
                hint.set_lower(hint.lower().saturating_add(prefix.len() as u64));
                hint
            }
        }
    }
}

/// Converts a frame of any buffer into one of `Bytes`. A frame that is already `Bytes` is not copied.
fn into_bytes<D: Buf, E: Into<BoxError>>(frame: Result<Frame<D>, E>) -> Result<Frame<Bytes>, BoxError> {
    frame.map(|frame| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn trailers() -> HeaderMap {
        [(http::HeaderName::from_static("sum"), http::HeaderValue::from_static("1"))].into_iter().collect()
    }

    #[tokio::test]
    async fn a_buffered_body_yields_its_bytes_and_then_its_trailers() {
        let body = Buffered { bytes: Bytes::from_static(b"abc"), trailers: Some(trailers()) };
        let body = ResponseBody::<Full<Bytes>>::buffered(body);
        // With a known length it would be sent without its trailers.
        assert_eq!((body.size_hint().lower(), body.size_hint().exact()), (3, None));
        assert!(!body.is_end_stream());
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers()));
        assert_eq!(collected.to_bytes(), "abc");
    }

    #[tokio::test]
    async fn a_body_with_only_trailers_is_not_at_its_end() {
        let body = Buffered { bytes: Bytes::new(), trailers: Some(trailers()) };
        let body = RequestBody::<Full<Bytes>>::buffered(body);
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers()));
        assert!(ResponseBody::<Full<Bytes>>::buffered(Buffered::default()).is_end_stream());
    }

    #[tokio::test]
    async fn a_partly_read_body_continues_with_the_rest() {
        let rest = Box::pin(Full::new(Bytes::from_static(b"def")));
        let body = ResponseBody::partial(Bytes::from_static(b"abc"), rest);
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abcdef");
    }

    #[tokio::test]
    async fn an_unread_body_stays_as_it_is() {
        let body = RequestBody::unread(Full::new(&b"abc"[..]));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
    }
}
