//! What a request says about itself: its key, its scope, and whether it bypasses the layer.

pub(crate) mod bypass;
pub(crate) mod key;
pub(crate) mod scope;

pub use self::key::IdempotencyKey;
pub use self::scope::{Scope, ScopeError};
