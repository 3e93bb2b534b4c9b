//! The suite over the reference store, on a clock that cannot be moved.

mod support;

conformance_tests::main!(support::ReferenceHarness(conformance_tests::Clock::Real));
