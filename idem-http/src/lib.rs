//! A tower layer for idempotent HTTP, over the [idem](idem_core) engine.
//!
//! A client times out and sends its request again, or a user clicks twice. Behind this layer the handler runs once: the
//! request's key is reserved before the handler runs, and every duplicate is told that it is running, or is given its
//! answer.
//!
//! - [`IdempotencyLayer`] goes around a service. Its builder asks one question: whose requests are these ([`Scope`])?
//! - Two branches, one code path: the *explicit key* (`Idempotency-Key`), and, where it is asked for, the *fingerprint*:
//!   a request without a key is its own key for a short while.
//! - [`Disposition`] is what a response means: stored, released or abandoned. [`Dialect`] is what clients see.
//! - [`TransactionalStep`] hands the reservation to handlers that complete it in a transaction of their own.
//! - With the feature `axum` there are extractors and the matched route; with `client`, a layer for those who call.
//!
//! What is stored for how long, where authentication, compression and timeouts belong, and what clients have to do is
//! written in `docs/http.md`.
//!
//! # What passes by
//!
//! Methods other than `POST` and `PATCH`, `application/grpc*`, upgrades to other protocols, and requests without a key
//! (unless [`require_key`](LayerBuilder::require_key) or [`fingerprint`](LayerBuilder::fingerprint) says otherwise). An
//! event stream is sent as it comes; that its request was executed is recorded, and its duplicates are told so.
//!
//! # Where things are
//!
//! A request goes through `service` (does it pass by?), `pass`, `key`, `scope`, `collect` (its body), `admit` (may it
//! run?), `run` (the handler and what becomes of its response), `stored` (its bytes). `answer` and `dialect` are what the
//! layer says itself.

// On docs.rs, items that need a feature say which.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admit;
mod answer;
mod body;
#[cfg(feature = "client")]
pub mod client;
mod collect;
mod decide;
mod dialect;
#[cfg(feature = "axum")]
pub mod extract;
mod key;
mod layer;
pub mod observe;
mod pass;
mod run;
mod scope;
mod service;
mod step;
mod stored;
mod unprotected;

pub use body::{RequestBody, ResponseBody};
pub use decide::{Disposition, Replay};
pub use dialect::{Dialect, Reply};
pub use key::IdempotencyKey;
pub use layer::{Chosen, IdempotencyLayer, LayerBuilder, Shutdown, Unchosen};
pub use scope::{Scope, ScopeError};
pub use service::{Idempotency, ResponseFuture};
pub use step::{NoStep, Recorder, TransactionalStep};

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And those of the integration guide.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../docs/http.md")]
struct Guide;
