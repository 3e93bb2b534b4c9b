//! The service: its routes, the authentication, and the idempotency layer between the two.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use http::header::AUTHORIZATION;
use idem_core::{Engine, EngineBuilder};
use idem_http::{IdempotencyLayer, Scope, ScopeError};
use serde_json::json;

use crate::Failure;
use crate::arguments::Serve;
use crate::create::{self, App, create, create_in_transaction};
use crate::ledger::{File, Ledger};
use crate::request::Kind;
use crate::store::Store;

/// The principal of a request: what the authentication found out.
#[derive(Clone)]
pub(crate) struct Team(pub(crate) String);

/// A service that is ready to be served, and what has to be shut down after it.
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) layer: IdempotencyLayer,
    pub(crate) store: Store,
}

impl Service {
    /// Makes the service that the options describe.
    pub(crate) async fn open(options: &Serve) -> Result<Self, Failure> {
        let store = Store::connect(&options.store).await?;
        let transactional = match (&store.transactions, options.transactional) {
            (Some(transactions), true) => Some(transactions.clone()),
            (None, true) => {
                let why =
                    "--transactional needs a store that has transactions: `sqlite:PATH` or `postgres://..`";
                return Err(why.into());
            }
            (_, false) => None,
        };
        let ledger = match (&options.ledger, &transactional) {
            (Some(file), _) => {
                let opened =
                    File::open(file).map_err(|error| format!("the ledger {}: {error}", file.display()));
                Ledger::File(opened?)
            }
            (None, Some(transactions)) => transactions.ledger(&options.store).await?,
            (None, None) => return Err("--ledger is missing".into()),
        };
        let layer = layer(&store, options)?;
        let app = App { ledger, may_simulate: options.simulate, transactional };
        Ok(Self { router: router(app, &layer), layer, store })
    }
}

/// The layer of all resources: the explicit key, and for requests without one the fingerprint within its window.
fn layer(store: &Store, options: &Serve) -> Result<IdempotencyLayer, Failure> {
    let settings: EngineBuilder = Engine::builder(store.records.clone())
        .lease(options.lease)
        .in_flight(options.in_flight)
        .expired_lease(options.expired_lease.into())
        .store_failure(options.on_store_error.into());
    let keys = settings.clone().retention(options.retention).build()?;
    let fingerprints = settings
        .retention(options.fingerprint_window)
        .build()
        .map_err(|error| format!("--fingerprint-window, of requests without a key: {error}"))?;
    Ok(IdempotencyLayer::builder(keys)
        .fingerprint(fingerprints)
        .scope(|parts| {
            let team = parts.extensions.get::<Team>().ok_or(ScopeError::unauthenticated())?;
            Scope::principal(&team.0)
        })
        .build())
}

fn router(app: App, layer: &IdempotencyLayer) -> Router {
    let resources = Kind::ALL.into_iter().fold(Router::new(), |router, kind| {
        router.route(&format!("/{}", kind.name()), resource(kind, app.transactional.is_some()))
    });
    // The last layer is the outermost: whoever may not ask is refused before anything is looked up.
    let resources = resources.route_layer(layer.clone()).route_layer(from_fn(authenticate));
    let router = resources.route("/healthz", get(async || "ok"));
    let router = if app.may_simulate { router.route("/ledger", get(ledger)) } else { router };
    router.with_state(app)
}

fn resource(kind: Kind, is_transactional: bool) -> MethodRouter<App> {
    if is_transactional {
        post(move |app, team, key, step, body| create_in_transaction(kind, app, team, key, step, body))
    } else {
        post(move |app, team, attempt, key, body| create(kind, app, team, attempt, key, body))
    }
}

/// `Authorization: Bearer TEAM`. A real service would check a signature here; the team is what it would find in it.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let team = request.headers().get(AUTHORIZATION).and_then(|value| {
        // Any text is a team, also one that `to_str` would refuse, since it takes ASCII alone.
        let (scheme, team) = std::str::from_utf8(value.as_bytes()).ok()?.split_once(' ')?;
        let team = team.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !team.is_empty()).then(|| Team(team.to_owned()))
    });
    let Some(team) = team else {
        return create::json(StatusCode::UNAUTHORIZED, &json!({ "error": "unauthenticated" }))
            .map(Into::into);
    };
    request.extensions_mut().insert(team);
    next.run(request).await
}

async fn ledger(State(app): State<App>) -> Response {
    match app.ledger.rows().await {
        Ok(rows) => create::json(StatusCode::OK, &json!(rows)).map(Into::into),
        Err(error) => {
            eprintln!("the ledger failed: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
