//! [`Run`]: a guarded handler, in a task of its own, from its start to the answer of its client.
//!
//! INV-1: the handler's response is sent only after the store acknowledged what is done with it: completed, released or
//! abandoned. So the next request finds it done.
//! INV-2: the response of a run that lost its key is never sent: the request's answer is the one that was accepted.
//! INV-3: whatever panics, the reservation is in the slot or in the settling call, and is abandoned or settled.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body::Body;
use idem_core::store::{RecordView, StateView};
use idem_core::{
    AbandonOutcome, Answer, Engine, Fingerprint, FinishOutcome, Key, ReleaseOutcome, Reservation,
};
use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower_service::Service;
use tracing::Instrument;

use crate::body::{BoxError, Collected, RequestBody, ResponseBody};
use crate::collect::{Gathered, response_body};
use crate::decide::Disposition;
use crate::layer::Config;
use crate::observe;
use crate::step::{Held, Slot};
use crate::stored::Stored;

/// How long the store is asked for a record that another run has decided.
const LOOK_WITHIN: Duration = Duration::from_secs(5);

/// A handler's run, and what its record is called.
pub(crate) struct Run {
    pub(crate) config: Arc<Config>,
    pub(crate) engine: Engine,
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
}

/// What a handler's response has become.
enum Weighed<R> {
    /// It is the answer of the request.
    Kept(Collected),
    /// It is sent, and not kept.
    Unkept(ResponseBody<R>),
    /// Nothing happened.
    Released(R),
    /// Nobody knows what happened.
    Abandoned(R),
    Broken(BoxError),
}

impl Run {
    /// Starts the handler in a task of its own. Dropping the handle changes nothing about that.
    ///
    /// Not an `async fn`: its caller would carry the whole run about with it, and copy it once more.
    pub(crate) fn start<S, B, R>(
        self,
        slot: Slot,
        mut service: S,
        request: Request<RequestBody<B>>,
    ) -> JoinHandle<Result<Response<ResponseBody<R>>, S::Error>>
    where
        S: Service<Request<RequestBody<B>>, Response = Response<R>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: Body + Send + 'static,
        R: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let span = observe::run(&self.key, slot.attempt().number);
        // The call is inside, since a service may panic before it returns a future.
        let handler = caught(async move { service.call(request).await });
        tokio::spawn(self.run(slot, handler).instrument(span))
    }

    /// The rarer ends are boxed, so that the run is not as large as the sum of them.
    async fn run<F, R, E>(self, slot: Slot, handler: Caught<F>) -> Result<Response<ResponseBody<R>>, E>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Body<Error: Into<BoxError>>,
    {
        let ended = handler.await;
        if ended.is_err() {
            observe::panicked(&self.key);
        }
        let reservation = match slot.take() {
            Held::Reservation(reservation) => reservation,
            Held::Unprotected => return self.unguarded(ended),
            Held::Taken => return Box::pin(self.after_step(&slot, ended)).await,
        };
        match ended {
            Ok(Ok(response)) => Ok(self.settle(reservation, response).await),
            Ok(Err(error)) => Box::pin(self.abandon(reservation)).await.ok_or(error),
            Err(_) => Ok(Box::pin(self.abandon(reservation)).await.unwrap_or_else(|| self.failed())),
        }
    }

    /// Does with the record what the response says, and gives the client its answer.
    async fn settle<R>(&self, reservation: Reservation, response: Response<R>) -> Response<ResponseBody<R>>
    where
        R: Body<Error: Into<BoxError>>,
    {
        let (head, body) = response.into_parts();
        // Inside of the same net as the handler: a hook and a body are the user's code too.
        let Ok(weighed) = caught(self.weigh(&head, body)).await else {
            observe::panicked(&self.key);
            return Box::pin(self.abandon(reservation)).await.unwrap_or_else(|| self.failed());
        };
        match weighed {
            Weighed::Kept(body) => {
                let (bytes, trailers) = (body.bytes.clone(), body.trailers.as_ref());
                let stored = Stored::of(&head, bytes, trailers, &self.config.never_stored);
                let own = Response::from_parts(head, ResponseBody::read(body));
                self.finish(reservation, stored.encode().into(), own).await
            }
            Weighed::Unkept(body) => {
                self.finish(reservation, Answer::NotKept, Response::from_parts(head, body)).await
            }
            Weighed::Released(body) => {
                let own = || Response::from_parts(head, ResponseBody::passed(body));
                Box::pin(self.release(reservation)).await.unwrap_or_else(own)
            }
            Weighed::Abandoned(body) => {
                let own = || Response::from_parts(head, ResponseBody::passed(body));
                Box::pin(self.abandon(reservation)).await.unwrap_or_else(own)
            }
            Weighed::Broken(error) => {
                observe::response_broken(&self.key, &error);
                Box::pin(self.abandon(reservation)).await.unwrap_or_else(|| self.failed())
            }
        }
    }

    async fn weigh<R>(&self, head: &http::response::Parts, body: R) -> Weighed<R>
    where
        R: Body<Error: Into<BoxError>>,
    {
        match (self.config.disposition)(head).checked(head) {
            Disposition::Store => match response_body(body, self.config.max_response_bytes).await {
                Gathered::Whole(body) if is_short(head, &body) => {
                    Weighed::Broken("the body is not as long as its Content-Length says".into())
                }
                Gathered::Whole(body) => Weighed::Kept(body),
                Gathered::TooLarge(read, rest) => Weighed::Unkept(ResponseBody::partly(read, rest)),
                Gathered::Broken(error) => Weighed::Broken(error),
            },
            Disposition::NotKept => Weighed::Unkept(ResponseBody::passed(body)),
            Disposition::Release => Weighed::Released(body),
            Disposition::Abandon => Weighed::Abandoned(body),
        }
    }

    async fn finish<R>(
        &self,
        reservation: Reservation,
        answer: Answer,
        own: Response<ResponseBody<R>>,
    ) -> Response<ResponseBody<R>> {
        match reservation.finish(answer).await {
            // The engine has told of a completion that was not acknowledged; the handler ran, and its client is owed
            // the answer.
            FinishOutcome::Accepted | FinishOutcome::Unrecorded(_) => own,
            FinishOutcome::Superseded(answer) => {
                self.config.accepted(&self.key, &answer).map(ResponseBody::read)
            }
            FinishOutcome::LeaseLost => self.in_progress(),
        }
    }

    /// Releases the key. If it was another's by then, what that one says is the request's answer.
    async fn release<R>(&self, reservation: Reservation) -> Option<Response<ResponseBody<R>>> {
        match reservation.release().await {
            Ok(ReleaseOutcome::Lost) => Some(self.of_another().await),
            // What was not acknowledged goes on in the background.
            Ok(
                ReleaseOutcome::Released | ReleaseOutcome::AlreadyReleased | ReleaseOutcome::AlreadyCompleted,
            )
            | Err(_) => None,
        }
    }

    /// Abandons the key. If it was another's by then, what that one says is the request's answer.
    async fn abandon<R>(&self, reservation: Reservation) -> Option<Response<ResponseBody<R>>> {
        match reservation.abandon().await {
            Ok(AbandonOutcome::Lost) => Some(self.of_another().await),
            // What was not acknowledged goes on in the background.
            Ok(AbandonOutcome::Abandoned | AbandonOutcome::AlreadyCompleted) | Err(_) => None,
        }
    }

    /// The answer of the run that has taken this one's key (INV-2).
    async fn of_another<R>(&self) -> Response<ResponseBody<R>> {
        match self.record().await {
            Some(Some(RecordView { state: StateView::Completed { answer, .. }, .. })) => {
                self.config.accepted(&self.key, &answer).map(ResponseBody::read)
            }
            _ => self.in_progress(),
        }
    }

    /// The answer after a handler that took the transactional step: what the store says was committed, whatever the
    /// handler says.
    async fn after_step<R, E>(
        &self,
        slot: &Slot,
        ended: Result<Result<Response<R>, E>, Panic>,
    ) -> Result<Response<ResponseBody<R>>, E> {
        let claims_success = matches!(&ended, Ok(Ok(response)) if response.status().as_u16() < 400);
        match self.record().await {
            Some(Some(RecordView { state: StateView::Completed { answer, .. }, .. })) => {
                return Ok(match slot.recorded(&answer) {
                    Some(first_hand) => first_hand.map(ResponseBody::read),
                    None => self.config.accepted(&self.key, &answer).map(ResponseBody::read),
                });
            }
            Some(record) => {
                let own = slot.attempt();
                // A key that was taken over has a further attempt; one that was released and reserved again has not.
                let was_lost = match record {
                    Some(record) if record.fence == own.fence => {
                        if !record.can_be_taken_over() {
                            self.abandon_dropped(slot).await;
                        }
                        false
                    }
                    Some(record) => claims_success || record.attempt > own.number,
                    None => self.was_released_by_another(slot).await,
                };
                if was_lost {
                    return Ok(self.in_progress());
                }
                if claims_success {
                    observe::not_committed(&self.key);
                    let reply = &self.config.dialect.step_not_committed;
                    return Ok(self.config.own(reply).map(ResponseBody::read));
                }
            }
            None => observe::unconfirmed(&self.key),
        }
        self.unguarded(ended)
    }

    /// Abandons a key whose reservation the handler has dropped. Its drop does the same in the background, and the
    /// client may be back before that (INV-1).
    async fn abandon_dropped(&self, slot: &Slot) {
        if let Some(owner) = slot.owner() {
            // What is not acknowledged in time goes on in the background.
            let _ = timeout(LOOK_WITHIN, self.engine.store().abandon(&self.key, owner)).await;
        }
    }

    /// Whether a key that nobody holds was given up by another run than this one, which had lost it by then.
    async fn was_released_by_another(&self, slot: &Slot) -> bool {
        let Some(owner) = slot.owner() else { return false };
        // Nothing is left to be released. Of its own release a token is told again.
        let released = timeout(LOOK_WITHIN, self.engine.store().release(&self.key, owner)).await;
        matches!(released, Ok(Ok(ReleaseOutcome::Lost)))
    }

    /// The handler's own answer.
    fn unguarded<R, E>(
        &self,
        ended: Result<Result<Response<R>, E>, Panic>,
    ) -> Result<Response<ResponseBody<R>>, E> {
        match ended {
            Ok(result) => result.map(|response| response.map(ResponseBody::passed)),
            Err(_) => Ok(self.failed()),
        }
    }

    /// The record of this very request; `None` if the store cannot be asked.
    async fn record(&self) -> Option<Option<RecordView>> {
        let view = timeout(LOOK_WITHIN, self.engine.store().get(&self.key)).await.ok()?.ok()?;
        // Another payload's record is nobody's business here.
        Some(view.filter(|view| view.fingerprint == self.fingerprint))
    }

    fn in_progress<R>(&self) -> Response<ResponseBody<R>> {
        self.config.in_progress(Duration::ZERO).map(ResponseBody::read)
    }

    fn failed<R>(&self) -> Response<ResponseBody<R>> {
        self.config.own(&self.config.dialect.handler_failed).map(ResponseBody::read)
    }
}

/// Whether a body has ended before its time. One without any bytes may be the answer to `HEAD`.
fn is_short(head: &http::response::Parts, body: &Collected) -> bool {
    let told = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    !body.bytes.is_empty() && told.is_some_and(|told: u64| told != body.bytes.len() as u64)
}

type Panic = Box<dyn Any + Send>;

pin_project! {
    /// Runs a future to its end, and catches its panic.
    ///
    /// Unwind safety is asserted because nothing that the future could have left half changed is looked at afterwards.
    struct Caught<F> {
        #[pin]
        future: F,
    }
}

fn caught<F: Future>(future: F) -> Caught<F> {
    Caught { future }
}

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
