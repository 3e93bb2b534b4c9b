//! The suite over the reference store, on each kind of clock: tokio's, which the suite pauses and moves; one that stands
//! still until the harness moves it; and one that cannot be moved.

mod harness;

use harness::ReferenceHarness;
use idem_conformance::Clock;

idem_conformance::main!(
    "paused" => ReferenceHarness(Clock::Tokio),
    "moved" => ReferenceHarness(Clock::Manual),
    "real_time" => ReferenceHarness(Clock::Real),
);
