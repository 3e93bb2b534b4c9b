//! [`Failure`].

use std::error::Error;

/// An error for a person to read.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;
