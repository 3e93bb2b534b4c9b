//! The authentication.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::AUTHORIZATION;

use crate::response::json;

/// The principal of a request.
#[derive(Clone)]
pub(crate) struct Team(pub(crate) String);

/// `Authorization: Bearer TEAM`. A real service would check a signature here; the team is what it would find in it.
pub(crate) async fn authenticate(mut request: Request, next: Next) -> Response {
    let team = request.headers().get(AUTHORIZATION).and_then(|value| {
        // Any text is a team, also one that `to_str` would refuse, since it takes ASCII alone.
        let (scheme, team) = std::str::from_utf8(value.as_bytes()).ok()?.split_once(' ')?;
        let team = team.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !team.is_empty()).then(|| Team(team.to_owned()))
    });
    let Some(team) = team else {
        return json(StatusCode::UNAUTHORIZED, &serde_json::json!({ "error": "unauthenticated" }))
            .map(Into::into);
    };
    request.extensions_mut().insert(team);
    next.run(request).await
}
