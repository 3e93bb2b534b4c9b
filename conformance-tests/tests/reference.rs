//! The suite over the reference store, on tokio's clock, paused and moved where there are no threads.

mod support;

conformance_tests::main!(support::ReferenceHarness(conformance_tests::Clock::Tokio));
