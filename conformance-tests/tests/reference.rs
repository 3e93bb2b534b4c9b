//! The suite over the reference store, on tokio's clock, paused and moved where there are no threads.

mod support;

idem_conformance::main!(support::ReferenceHarness(idem_conformance::Clock::Tokio));
