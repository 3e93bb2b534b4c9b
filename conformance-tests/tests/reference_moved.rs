//! The suite over the reference store, on a clock that runs and that the harness moves on.

mod support;

conformance_tests::main!(support::ReferenceHarness(conformance_tests::Clock::Adjustable));
