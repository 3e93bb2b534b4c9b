//! Small complete programs on idem, each with a test that runs it. The README has the list.

pub mod axum_sqlx;
pub mod backend;
pub mod queue_consumer;
pub mod reqwest_client;
pub mod tonic_unary;
pub mod unit_test;
