//! Reading bodies to their end, up to a limit.

use std::error::Error;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError};
use tokio::time::timeout;

use crate::body::{BoxError, Collected};

/// How much of a refused request's body is read, and for how long at the most. Many clients send all of it before they
/// read the answer, and see a broken connection instead of it if nobody reads.
const DRAIN_BYTES: usize = 256 << 10;
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// Why a request's body could not be had.
#[derive(Debug)]
pub(crate) enum Unread {
    TooLarge,
    Broken,
}

/// A response's body, or what has become of it.
pub(crate) enum Gathered<B> {
    Whole(Collected),
    /// It is larger than the limit. What was read, and the rest.
    TooLarge(Bytes, Pin<Box<B>>),
    Broken(BoxError),
}

/// Reads a request's body. One that is too large is drained, within bounds.
pub(crate) async fn request_body<B>(body: B, limit: usize, may_drain: bool) -> Result<Collected, Unread>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    let mut read = Read::up_to(limit);
    if body.size_hint().lower() <= limit as u64 {
        match read.on(body.as_mut()).await {
            Ok(true) => return Ok(read.collected()),
            Ok(false) => {}
            Err(error) => return Err(if is_limit(&*error) { Unread::TooLarge } else { Unread::Broken }),
        }
    }
    drop(read);
    if may_drain {
        Box::pin(drain(body.as_mut())).await;
    }
    Err(Unread::TooLarge)
}

/// Whether a limit further out was exceeded (`tower_http` has one), which means the same as ours.
fn is_limit(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Reads a response's body.
pub(crate) async fn response_body<B>(body: B, limit: usize) -> Gathered<B>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = Box::pin(body);
    let mut read = Read::up_to(limit);
    if body.size_hint().lower() > limit as u64 {
        return Gathered::TooLarge(Bytes::new(), body);
    }
    match read.on(body.as_mut()).await {
        Ok(true) => Gathered::Whole(read.collected()),
        Ok(false) => Gathered::TooLarge(read.bytes(), body),
        Err(error) => Gathered::Broken(error),
    }
}

/// Reads a bounded amount of a body that nobody wants, so that its client comes to read the answer.
pub(crate) async fn drain<B: Body + Unpin>(mut body: B) {
    let mut left = DRAIN_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Buf::remaining)) else { break };
            left = rest;
        }
    };
    // Whether it came to its end or not, the answer is the same.
    let _ = timeout(DRAIN_WITHIN, reading).await;
}

/// What was read of a body.
struct Read {
    /// Most bodies are one frame, which is not copied.
    first: Bytes,
    all: BytesMut,
    trailers: Option<HeaderMap>,
    limit: usize,
}

impl Read {
    fn up_to(limit: usize) -> Self {
        Self { first: Bytes::new(), all: BytesMut::new(), trailers: None, limit }
    }

    /// Reads on. False if the body is larger than the limit; what was read then includes the frame that was too much.
    async fn on<B>(&mut self, mut body: Pin<&mut B>) -> Result<bool, BoxError>
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

    fn bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }

    fn collected(mut self) -> Collected {
        let trailers = self.trailers.take();
        Collected { bytes: self.bytes(), trailers }
    }
}
