//! Completion together with an effect in the same database (promise P6).

mod complete_in;
mod endings;
mod guard;
mod lost_replies;
mod misuse;
#[cfg(feature = "sqlx")]
mod sqlx;
mod storm;
mod zombies;
