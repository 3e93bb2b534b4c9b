//! [`Run`]: how a run ends, and the client's response.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{Response, response};
use http_body::Body;
use idem_core::backend::{Panic, catch_unwind};
use idem_core::{
    AbandonOutcome, Answer, FinishOutcome, Key, Receipt, ReceiptOutcome, ReleaseOutcome, Reservation,
};

use crate::body::read::{BodyRead, Buffered, read_response};
use crate::body::{BoxError, ResponseBody};
use crate::config::Config;
use crate::observe;
use crate::response::disposition::Disposition;
use crate::response::stored::StoredResponse;
use crate::step::slot::Slot;

/// A handler's run under a key.
pub(super) struct Run {
    pub(super) config: Arc<Config>,
    pub(super) key: Key,
}

/// How a handler ended: with a response, an error of its service, or a panic.
pub(super) type HandlerResult<R, E> = Result<Result<Response<R>, E>, Panic>;

/// What to do with a handler's response, with its body read as far as necessary.
enum Classified<R> {
    Store(Buffered),
    NotKept(ResponseBody<R>),
    Release(R),
    Abandon(R),
    Broken(BoxError),
}

impl Run {
    /// Settles the reservation, and returns the client's response.
    pub(super) async fn settle<R>(
        &self,
        reservation: Reservation,
        response: Response<R>,
    ) -> Response<ResponseBody<R>>
    where
        R: Body<Error: Into<BoxError>>,
    {
        let (head, body) = response.into_parts();
        // `classify` and the body are the user's code too, and may panic.
        let Ok(classified) = catch_unwind(self.classify(&head, body)).await else {
            observe::panicked(&self.key);
            return Box::pin(self.abandon(reservation)).await.unwrap_or_else(|| self.handler_failed());
        };
        match classified {
            Classified::Store(body) => {
                let stored = StoredResponse::new(&head, &body, &self.config.exclude_headers).encode();
                let own = Response::from_parts(head, ResponseBody::buffered(body));
                self.finish(reservation, stored.into(), own).await
            }
            Classified::NotKept(body) => {
                self.finish(reservation, Answer::NotKept, Response::from_parts(head, body)).await
            }
            Classified::Release(body) => {
                let own = || Response::from_parts(head, ResponseBody::unread(body));
                Box::pin(self.release(reservation)).await.unwrap_or_else(own)
            }
            Classified::Abandon(body) => {
                let own = || Response::from_parts(head, ResponseBody::unread(body));
                Box::pin(self.abandon(reservation)).await.unwrap_or_else(own)
            }
            Classified::Broken(error) => {
                observe::response_broken(&self.key, &*error);
                Box::pin(self.abandon(reservation)).await.unwrap_or_else(|| self.handler_failed())
            }
        }
    }

    /// Responds with what the store has committed, whatever the handler returned.
    pub(super) async fn after_step<R, E>(
        &self,
        slot: &Slot,
        receipt: &Receipt,
        result: HandlerResult<R, E>,
    ) -> Result<Response<ResponseBody<R>>, E> {
        let claims_success = matches!(&result, Ok(Ok(response)) if response.status().as_u16() < 400);
        match receipt.outcome().await {
            ReceiptOutcome::Completed(answer) => {
                let own = slot.committed_response(&answer);
                let response = own.unwrap_or_else(|| self.config.responder.accepted(&self.key, &answer));
                Ok(response.map(ResponseBody::buffered))
            }
            ReceiptOutcome::LeaseLost => Ok(self.in_progress()),
            ReceiptOutcome::ReservedAgain if claims_success => Ok(self.in_progress()),
            ReceiptOutcome::NotCompleted if claims_success => {
                observe::not_committed(&self.key);
                let responder = &self.config.responder;
                Ok(responder.problem(&responder.wire.step_not_committed).map(ResponseBody::buffered))
            }
            ReceiptOutcome::ReservedAgain | ReceiptOutcome::NotCompleted => self.handlers_response(result),
            ReceiptOutcome::Unknown(error) => {
                observe::unconfirmed(&self.key, &error);
                self.handlers_response(result)
            }
        }
    }

    async fn classify<R>(&self, head: &response::Parts, body: R) -> Classified<R>
    where
        R: Body<Error: Into<BoxError>>,
    {
        match (self.config.classify)(head).checked(head) {
            Disposition::Store => match read_response(body, self.config.max_response_bytes).await {
                BodyRead::Complete(body) if is_short(head, &body) => {
                    Classified::Broken("the body is not as long as its Content-Length says".into())
                }
                BodyRead::Complete(body) => Classified::Store(body),
                BodyRead::TooLarge(prefix, rest) => Classified::NotKept(ResponseBody::partial(prefix, rest)),
                BodyRead::Broken(error) => Classified::Broken(error),
            },
            Disposition::NotKept => Classified::NotKept(ResponseBody::unread(body)),
            Disposition::Release => Classified::Release(body),
            Disposition::Abandon => Classified::Abandon(body),
        }
    }

    async fn finish<R>(
        &self,
        reservation: Reservation,
        answer: Answer,
        own: Response<ResponseBody<R>>,
    ) -> Response<ResponseBody<R>> {
        match reservation.finish(answer).await {
            // If the completion was not acknowledged, the handler still ran, so its client gets the response.
            FinishOutcome::Accepted | FinishOutcome::Unrecorded(_) => own,
            FinishOutcome::Superseded(answer) => self.accepted(&answer),
            FinishOutcome::LeaseLost => self.in_progress(),
        }
    }

    /// Releases the key. If another run had taken it, returns that run's response.
    async fn release<R>(&self, reservation: Reservation) -> Option<Response<ResponseBody<R>>> {
        let (reservation, receipt) = reservation.hand_out();
        match reservation.release().await {
            Ok(ReleaseOutcome::Lost) => Some(self.response_of_other_run(&receipt).await),
            _ => None, // after an error, the engine retries in the background
        }
    }

    /// Abandons the key. If another run had taken it, returns that run's response.
    pub(super) async fn abandon<R>(&self, reservation: Reservation) -> Option<Response<ResponseBody<R>>> {
        let (reservation, receipt) = reservation.hand_out();
        match reservation.abandon().await {
            Ok(AbandonOutcome::Lost) => Some(self.response_of_other_run(&receipt).await),
            _ => None, // after an error, the engine retries in the background
        }
    }

    /// The response of the run that took the key (INV-2).
    async fn response_of_other_run<R>(&self, receipt: &Receipt) -> Response<ResponseBody<R>> {
        match receipt.outcome().await {
            ReceiptOutcome::Completed(answer) => self.accepted(&answer),
            _ => self.in_progress(),
        }
    }

    fn accepted<R>(&self, answer: &Answer) -> Response<ResponseBody<R>> {
        self.config.responder.accepted(&self.key, answer).map(ResponseBody::buffered)
    }

    /// The response that the handler itself gave.
    pub(super) fn handlers_response<R, E>(
        &self,
        result: HandlerResult<R, E>,
    ) -> Result<Response<ResponseBody<R>>, E> {
        match result {
            Ok(result) => result.map(|response| response.map(ResponseBody::unread)),
            Err(_) => Ok(self.handler_failed()),
        }
    }

    pub(super) fn handler_failed<R>(&self) -> Response<ResponseBody<R>> {
        let responder = &self.config.responder;
        responder.problem(&responder.wire.handler_failed).map(ResponseBody::buffered)
    }

    /// Another run of the request holds the key, or may take it at any time.
    pub(super) fn in_progress<R>(&self) -> Response<ResponseBody<R>> {
        self.config.responder.in_progress(Duration::ZERO).map(ResponseBody::buffered)
    }
}

/// Whether a body ended too early. A body without any bytes may belong to the response to `HEAD`.
fn is_short(head: &response::Parts, body: &Buffered) -> bool {
    let expected = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    !body.bytes.is_empty() && expected.is_some_and(|expected: u64| expected != body.bytes.len() as u64)
}
