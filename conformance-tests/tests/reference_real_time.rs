//! The suite over the reference store, on a clock that cannot be moved.

mod support;

idem_conformance::main!(support::ReferenceHarness(idem_conformance::Clock::Real));
