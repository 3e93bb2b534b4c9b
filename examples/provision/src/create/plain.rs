//! The effect first, and its completion after it, as in most services. A crash between the two is visible to the next
//! attempt, in `attempt`.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use idem_http::extract::{Attempt, IdempotencyKey};
use tokio::time::sleep;

use super::response::{conflict, created, ended, error_of, rejected};
use crate::app::App;
use crate::ledger::Entry;
use crate::request::{Kind, NewResource, Outcome};
use crate::team::Team;

/// Creates a resource.
pub(crate) async fn create(
    kind: Kind,
    State(app): State<App>,
    Extension(team): Extension<Team>,
    attempt: Attempt,
    key: Option<IdempotencyKey>,
    body: Bytes,
) -> Response {
    let new = match NewResource::parse(&body, app.may_simulate) {
        Ok(new) => new,
        Err(invalid) => return invalid.into_response(),
    };
    let simulate = new.simulate();
    sleep(simulate.delay()).await;
    let appended = app.ledger.append(Entry::of(kind, &team.0, &new, key.as_ref(), &attempt)).await;
    let (id, entry) = match appended {
        Ok(appended) => appended,
        Err(error) => {
            eprintln!("the ledger failed: {error}");
            return ended(&error_of("the ledger failed"));
        }
    };
    sleep(simulate.hold()).await;
    match simulate.outcome {
        Outcome::Ok => ended(&created(id, &entry)),
        Outcome::Reject => ended(&rejected(id)),
        Outcome::Conflict => ended(&conflict()),
        Outcome::Error => ended(&error_of("the request asks for an error")),
        Outcome::Panic => panic!("the request asks for a panic"),
        Outcome::Abort => std::process::abort(),
    }
}
