//! Figures e and f: the worst single operation while a store grows large, and what a first request costs once it is.
//!
//! What figure f compares are two stores at work. A small one is asked right after it was filled, with all that it has
//! in the processor's caches; so the large one first serves as many requests as filled the small one, uncounted.
//! Otherwise it would be asked after a pause in which the small one's requests took the caches from it, and the figure
//! would show what waking a store up costs, not what its size does. The floor's two maps are treated alike.

use std::cell::Cell;
use std::ops::Range;
use std::time::{Duration, Instant};

use idem_core::store::ReserveOutcome;
use idem_core::{CompleteOutcome, ReservationStore};
use idem_memory::MemoryStore;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::setup::Scale;
use crate::load::{Load, Request};
use crate::report::{Figure, Target};
use crate::rounds::{Spread, alternate, nanos, nanos_each};
use crate::subject::{check_answers, completion, fingerprint, first_request, reserve};

/// Answers of the records that only make a store large.
const SHORT: usize = 32;
/// How many requests are made ready at a time, outside of what is measured.
const BATCH: u64 = 1000;
/// The numbers of the probes, beyond those of the records.
const PROBES: u64 = 1 << 40;

pub(super) fn worst_and_slowdown(scale: &Scale, runtime: &Runtime) -> [Figure; 2] {
    let load = Load::new(SHORT);
    let (floor, floor_worst, _) = grow_floor(&load, 0..scale.large);
    let (store, store_worst, took) = grow_store(&load, 0..scale.large, runtime);
    floor.check_answers(&fingerprint(), &load, 0..scale.large);
    check_answers(runtime, &store, &load, 0..scale.large);
    let worst = Figure {
        id: "e",
        what: format!("worst single operation while growing to {} records", millions(scale.large)),
        unit: "ms",
        target: Target::AtMost(20.0),
        value: millis(store_worst),
        comparisons: vec![("DashMap", millis(floor_worst)), ("idle machine", millis(worst_pause(took)))],
        flush: None,
    };
    [worst, slowdown(scale, runtime, &floor, &store)]
}

/// Figure f. Each round makes as many first requests in a fresh small store as in the large one, and as many before
/// those. The large one grows by that: by some 4% until the last round.
fn slowdown(scale: &Scale, runtime: &Runtime, large_floor: &Floor, large_store: &MemoryStore) -> Figure {
    let (short, load) = (Load::new(SHORT), Load::new(1024));
    let next = Cell::new(PROBES);
    let take = |count| {
        let first = next.replace(next.get() + count);
        first..first + count
    };
    let probes = || load.requests(take(BATCH));
    let probe_floor = |floor: &Floor, requests: Vec<Request>| {
        let (count, started) = (requests.len(), Instant::now());
        for request in requests {
            floor.first_request(fingerprint(), request);
        }
        nanos_each(started, count)
    };
    let probe_store = |store: &MemoryStore, requests: Vec<Request>| {
        let fingerprint = fingerprint();
        runtime.block_on(async {
            let (count, started) = (requests.len(), Instant::now());
            for request in requests {
                first_request(store, fingerprint, request).await;
            }
            nanos_each(started, count)
        })
    };

    let of_store = alternate(
        scale.rounds,
        || {
            let (store, _, _) = grow_store(&short, 0..scale.small, runtime);
            probe_store(&store, probes())
        },
        || {
            fill_store(large_store, &short, take(scale.small), runtime);
            probe_store(large_store, probes())
        },
    );
    let of_floor = alternate(
        scale.rounds,
        || {
            let (floor, _, _) = grow_floor(&short, 0..scale.small);
            probe_floor(&floor, probes())
        },
        || {
            fill_floor(large_floor, &short, take(scale.small));
            probe_floor(large_floor, probes())
        },
    );
    Figure {
        id: "f",
        what: format!(
            "first request at {} records, by one at {}",
            millions(scale.large),
            millions(scale.small)
        ),
        unit: "x",
        target: Target::AtMost(1.3),
        value: of_store.ratio(),
        comparisons: vec![("DashMap", of_floor.ratio())],
        flush: None,
    }
}

/// A floor with these records, its worst operation, and how long all of them took.
fn grow_floor(load: &Load, records: Range<u64>) -> (Floor, Duration, Duration) {
    let floor = Floor::default();
    let worst = fill_floor(&floor, load, records);
    (floor, worst.worst, worst.total)
}

fn fill_floor(floor: &Floor, load: &Load, records: Range<u64>) -> Worst {
    let fingerprint = fingerprint();
    let mut worst = Worst::default();
    for numbers in batches(records) {
        for Request { key, owner, answer } in load.requests(numbers) {
            assert!(worst.time(|| floor.claim(&key, owner, fingerprint)));
            assert!(worst.time(|| floor.answer(&key, owner, answer)));
        }
    }
    worst
}

/// The same for a store.
fn grow_store(load: &Load, records: Range<u64>, runtime: &Runtime) -> (MemoryStore, Duration, Duration) {
    let store = MemoryStore::new();
    let worst = fill_store(&store, load, records, runtime);
    (store, worst.worst, worst.total)
}

fn fill_store(store: &MemoryStore, load: &Load, records: Range<u64>, runtime: &Runtime) -> Worst {
    let fingerprint = fingerprint();
    let mut worst = Worst::default();
    for numbers in batches(records) {
        let requests = load.requests(numbers);
        runtime.block_on(async {
            for Request { key, owner, answer } in requests {
                let started = Instant::now();
                let reserved = store.reserve(&key, reserve(owner, fingerprint)).await;
                worst.note(started.elapsed());
                assert!(matches!(reserved, Ok(ReserveOutcome::Reserved { attempt: 1, .. })), "{reserved:?}");

                let completion = completion(answer);
                let started = Instant::now();
                let completed = store.complete(&key, owner, completion).await;
                worst.note(started.elapsed());
                assert!(matches!(completed, Ok(CompleteOutcome::Completed)), "{completed:?}");
            }
        });
    }
    worst
}

/// The longest and the sum of some durations.
#[derive(Debug, Default)]
struct Worst {
    worst: Duration,
    total: Duration,
}

impl Worst {
    fn note(&mut self, took: Duration) {
        self.worst = self.worst.max(took);
        self.total += took;
    }

    fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = operation();
        self.note(started.elapsed());
        result
    }
}

/// How long the machine at the most takes this thread's processor away within `time`: the worst pause of a loop that
/// does nothing but look at the clock. No operation can be measured to be better than this.
fn worst_pause(time: Duration) -> Duration {
    let mut worst = Worst::default();
    while worst.total < time {
        worst.time(|| ());
    }
    worst.worst
}

fn batches(records: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = records;
    (0..(end - start).div_ceil(BATCH)).map(move |batch| {
        let first = start + batch * BATCH;
        first..end.min(first + BATCH)
    })
}

fn millis(duration: Duration) -> Spread {
    Spread::single(nanos(duration) / 1e6)
}

fn millions(count: u64) -> String {
    if count >= 1_000_000 { format!("{} million", count / 1_000_000) } else { count.to_string() }
}
