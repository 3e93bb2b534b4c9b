//! The suite over the reference store, on a clock that stands still until the harness moves it.

mod support;

idem_conformance::main!(support::ReferenceHarness(idem_conformance::Clock::Manual));
