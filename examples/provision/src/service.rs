//! The service: its routes, the authentication, and the idempotency layer between them.

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::StatusCode;
use idem_core::{Engine, EngineBuilder};
use idem_http::{IdempotencyLayer, Scope, ScopeError};
use serde_json::json;

use crate::app::App;
use crate::arguments::Serve;
use crate::create::{create, create_in_transaction};
use crate::failure::Failure;
use crate::ledger::{File, Ledger};
use crate::request::Kind;
use crate::response;
use crate::store::Store;
use crate::team::{Team, authenticate};

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
    // The last layer is the outermost: an unauthenticated request is refused before any lookup.
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

async fn ledger(State(app): State<App>) -> Response {
    match app.ledger.rows().await {
        Ok(rows) => response::json(StatusCode::OK, &json!(rows)).map(Into::into),
        Err(error) => {
            eprintln!("the ledger failed: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
