//! Stores for tests: a small correct one, and wrappers that lose or count calls.

mod counted;
mod faulty;
mod reference;

pub use counted::Counted;
pub use faulty::{Fault, Faulty};
pub use reference::{Reference, Rules, Step, TryStep};
