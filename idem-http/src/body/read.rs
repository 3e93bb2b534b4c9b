//! [`Buffered`]: a body that was read to its end; and reading bodies up to a limit.

use std::error::Error;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError};
use tokio::time::timeout;

/// How much of a refused request's body is read, and for how long. Many clients send the whole body before they read the
/// response. If nothing reads the body, they see a broken connection instead of the response.
const DRAIN_BYTES: usize = 256 << 10;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The error of any body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A body that was read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Buffered {
    pub(crate) bytes: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Why a request body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Broken,
}

/// What reading a response body gave.
pub(crate) enum BodyRead<B> {
    Complete(Buffered),
    /// The body is larger than the limit: the part that was read, and the rest.
    TooLarge(Bytes, Pin<Box<B>>),
    Broken(BoxError),
}

impl Buffered {
    pub(super) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if self.bytes.is_empty() {
            return self.trailers.take().map(Frame::trailers);
        }
        Some(Frame::data(std::mem::take(&mut self.bytes)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let length = self.bytes.len() as u64;
        if self.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        // Over HTTP/1.1 a body of known length is sent with `Content-Length`, which leaves no place for trailers.
        let mut hint = SizeHint::new();
        hint.set_lower(length);
        hint
    }
}

/// Reads a request body. Drains one that is too large, within bounds.
pub(crate) async fn read_request<B>(body: B, limit: usize, may_drain: bool) -> Result<Buffered, BodyError>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    let mut reader = Reader::new(limit);
    if body.size_hint().lower() <= limit as u64 {
        match reader.read(body.as_mut()).await {
            Ok(true) => return Ok(reader.into_buffered()),
            Ok(false) => {}
            Err(error) if is_length_limit(&*error) => return Err(BodyError::TooLarge),
            Err(_) => return Err(BodyError::Broken),
        }
    }
    drop(reader);
    if may_drain {
        Box::pin(drain(body.as_mut())).await;
    }
    Err(BodyError::TooLarge)
}

/// Reads a response body.
pub(crate) async fn read_response<B>(body: B, limit: usize) -> BodyRead<B>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = Box::pin(body);
    let mut reader = Reader::new(limit);
    if body.size_hint().lower() > limit as u64 {
        return BodyRead::TooLarge(Bytes::new(), body);
    }
    match reader.read(body.as_mut()).await {
        Ok(true) => BodyRead::Complete(reader.into_buffered()),
        Ok(false) => BodyRead::TooLarge(reader.into_bytes(), body),
        Err(error) => BodyRead::Broken(error),
    }
}

/// Reads and discards a bounded part of a request body, so that its client goes on to read the response.
pub(crate) async fn drain<B: Body + Unpin>(mut body: B) {
    let mut left = DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Buf::remaining)) else { break };
            left = rest;
        }
    };
    // The response is the same whether the body ended or not.
    let _ = timeout(DRAIN_TIMEOUT, reading).await;
}

/// Whether a layer further out limited the body (`tower_http` has such a layer): that means the same as our limit.
fn is_length_limit(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(<dyn Error>::is::<LengthLimitError>)
}

/// Collects the frames of a body.
struct Reader {
    /// Most bodies are one frame, which is not copied.
    first: Bytes,
    all: BytesMut,
    trailers: Option<HeaderMap>,
    limit: usize,
}

impl Reader {
    fn new(limit: usize) -> Self {
        Self { first: Bytes::new(), all: BytesMut::new(), trailers: None, limit }
    }

    /// Reads to the end of the body, and returns true. Stops and returns false after the frame that exceeds the limit.
    async fn read<B>(&mut self, mut body: Pin<&mut B>) -> Result<bool, BoxError>
    where
        B: Body<Error: Into<BoxError>>,
    {
        while let Some(frame) = body.frame().await {
            let frame = match frame.map_err(Into::into)?.into_data() {
                Ok(mut data) => data.copy_to_bytes(data.remaining()),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.trailers = Some(trailers);
                    }
                    continue;
                }
            };
            self.push(frame);
            if self.len() > self.limit {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn push(&mut self, frame: Bytes) {
        if self.len() == 0 {
            self.first = frame;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&frame);
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }

    fn into_buffered(mut self) -> Buffered {
        let trailers = self.trailers.take();
        Buffered { bytes: self.into_bytes(), trailers }
    }
}
