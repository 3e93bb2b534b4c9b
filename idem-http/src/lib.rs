//! A tower layer for idempotent HTTP: each request runs once, and its duplicates get the first response.
//!
//! ```no_run
//! use axum::{Router, routing::post};
//! use idem_core::Engine;
//! use idem_http::{IdempotencyLayer, Scope, ScopeError};
//! use idem_memory::MemoryStore;
//!
//! #[derive(Clone)]
//! struct Tenant(String); // inserted into the request's extensions by your authentication
//!
//! # async fn example(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder(MemoryStore::new()).build()?;
//! let idempotency = IdempotencyLayer::builder(engine)
//!     .scope(|parts| {
//!         let tenant = parts.extensions.get::<Tenant>().ok_or(ScopeError::unauthenticated())?;
//!         Scope::principal(&tenant.0)
//!     })
//!     .require_key()
//!     .build();
//! let app = Router::new().route("/payments", post(async || "paid")).layer(idempotency);
//! axum::serve(listener, app).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | task | item |
//! |---|---|
//! | guard a service | [`IdempotencyLayer::builder`] |
//! | say whose requests these are | [`IdempotencyLayerBuilder::scope`], [`Scope`] |
//! | refuse requests without a key | [`IdempotencyLayerBuilder::require_key`] |
//! | deduplicate requests without a key | [`IdempotencyLayerBuilder::fingerprint`] |
//! | guard other methods than `POST` and `PATCH` | [`IdempotencyLayerBuilder::methods`] |
//! | choose which responses are stored | [`IdempotencyLayerBuilder::classify`], [`Disposition`] |
//! | check permissions before a replay | [`IdempotencyLayerBuilder::authorize_replay`] |
//! | change header names, statuses and error codes | [`WireOptions`], [`ProblemSpec`] |
//! | commit the effect and the response in one transaction | [`TransactionalStep`] |
//! | read the attempt and the key in an axum handler | [`extract`] (feature `axum`) |
//! | retry as a client, with one key per logical request | [`client::RetryLayer`] (feature `client`) |
//! | stop a process cleanly | [`IdempotencyLayer::shutdown`] |
//! | find the names of events | [`observe`] |
//!
//! The integration guide, `docs/http.md` in the repository, says where the layer belongs among other layers, what is
//! stored and for how long, and what clients have to do.
//!
//! # Requests that bypass the layer
//!
//! These requests run without protection: methods other than `POST` and `PATCH`, `application/grpc*`, upgrades to other
//! protocols, and requests without a key, unless [`require_key`](IdempotencyLayerBuilder::require_key) or
//! [`fingerprint`](IdempotencyLayerBuilder::fingerprint) is set.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod body;
#[cfg(feature = "client")]
pub mod client;
mod config;
#[cfg(feature = "axum")]
pub mod extract;
mod layer;
pub mod observe;
mod request;
mod response;
mod run;
mod service;
mod step;
mod unprotected;

pub use body::{RequestBody, ResponseBody};
pub use layer::{HasScope, IdempotencyLayer, IdempotencyLayerBuilder, NeedsScope, Scoped, ShutdownReport};
pub use request::{IdempotencyKey, Scope, ScopeError};
pub use response::{Disposition, ProblemSpec, Replay, WireOptions};
pub use service::{Idempotency, ResponseFuture};
pub use step::{ResponseEncoder, TransactionalStep, TransactionalStepRejection};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the integration guide.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../docs/http.md")]
struct Guide;
