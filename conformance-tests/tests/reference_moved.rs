//! The suite over the reference store, on a clock that stands still until the harness moves it.

mod support;

conformance_tests::main!(support::ReferenceHarness(conformance_tests::Clock::Manual));
