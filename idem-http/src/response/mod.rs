//! Responses: what happens to a handler's, how it is stored, and what the layer responds itself.

pub(crate) mod disposition;
pub(crate) mod format;
pub(crate) mod responder;
pub(crate) mod stored;
pub(crate) mod wire;

pub use self::disposition::{Disposition, Replay};
pub use self::wire::{ProblemSpec, WireOptions};
