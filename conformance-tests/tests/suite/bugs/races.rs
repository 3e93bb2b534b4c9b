//! Stores that are correct one call at a time, and wrong when calls race, get lost, or a server is killed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use idem_conformance::{Reference, Rules};
use idem_core::store::transition;
use idem_core::{CompleteOutcome, Effect, Key, Operation, StoreError, StoreErrorKind};
use tokio::task::yield_now;

use crate::broken::Broken;
use crate::intercept::{Intercept, Intercepted};
use crate::loose::{Flaw, Loose};

pub(crate) const BUGS: &[Broken] = &[
    Broken::wrapped(
        "reserves by GET and then SET",
        |_, _| Arc::new(Loose::new(Flaw::Within(Operation::Reserve))),
        &[
            "concurrency::crowds::n61_callers_around_the_expiry_of_an_answer_get_one_kind_of_answer_each",
            "concurrency::crowds::n66_of_64_reserves_at_once_one_is_reserved",
            "concurrency::crowds::n67_of_64_reserves_at_the_end_of_a_lease_one_takes_over",
            "concurrency::crowds::n75_200_keys_times_16_callers_have_one_owner_each",
            "concurrency::crowds::n75_200_keys_times_16_callers_of_two_engines_run_each_handler_once",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::wrapped(
        "completes by GET and then SET",
        |_, _| Arc::new(Loose::new(Flaw::Within(Operation::Complete))),
        &[
            "concurrency::duels::n68_of_a_completion_and_a_takeover_exactly_one_is_accepted",
            "concurrency::duels::n68_of_two_different_completions_by_the_owner_one_is_accepted",
            "concurrency::duels::n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted",
            "linearizability::an_order_explains_every_answer_of_concurrent_clients",
        ],
    ),
    Broken::wrapped(
        "releases by GET and then SET",
        |_, _| Arc::new(Loose::new(Flaw::Within(Operation::Release))),
        &["concurrency::duels::n68_of_a_completion_and_a_release_by_the_owner_one_is_accepted"],
    ),
    Broken::wrapped(
        "frees a released key first, and writes its tombstone then",
        |_, _| Arc::new(Loose::new(Flaw::BeforeTheTombstone)),
        &["concurrency::duels::n69_a_release_against_a_reserve_leaves_no_phantom_owner"],
    ),
    Broken::wrapped(
        "renews by GET and then SET",
        |_, _| Arc::new(Loose::new(Flaw::Within(Operation::Renew))),
        &["concurrency::duels::n70_a_renewal_against_an_abandon_leaves_the_key_open"],
    ),
    Broken::wrapped(
        "sweeps by GET and then DELETE",
        |_, _| Arc::new(Loose::new(Flaw::Within(Operation::Sweep))),
        &["concurrency::sweeps::n63_a_sweep_against_reserves_of_expired_keys_loses_no_reservation"],
    ),
    Broken {
        second: |_| Arc::new(Reference::new()),
        ..Broken::rules(
            "keeps data for each handle",
            Rules::CORRECT,
            &[
                "complete::n12_a_completion_is_visible_at_once_to_reserve_through_another_handle",
                "unknown::n81_a_handle_of_its_own_for_every_call_gives_the_same_answers",
                "concurrency::crowds::n66_of_64_reserves_at_once_one_is_reserved",
            ],
        )
    },
    Broken::wrapped(
        "locks a key for a call, and forever if the call is dropped",
        |store, _| Arc::new(Intercepted(LeakyLock { inner: store, locked: Mutex::default() })),
        &[
            "unknown::n79_a_dropped_reserve_leaves_a_defined_answer",
            "unknown::n79_a_dropped_complete_leaves_a_defined_answer",
            "unknown::n79_a_dropped_release_leaves_a_defined_answer",
            "unknown::n79_a_dropped_abandon_leaves_a_defined_answer",
        ],
    ),
    Broken::rules(
        "calls a first completion already completed",
        Rules {
            complete: |found, owner, completion, now| match transition::complete(
                found, owner, completion, now,
            ) {
                (CompleteOutcome::Completed, write) => (CompleteOutcome::AlreadyCompleted, write),
                other => other,
            },
            ..Rules::CORRECT
        },
        &["unknown::n77_a_complete_that_never_arrived_is_completed_when_resent"],
    ),
    Broken::wrapped(
        "fails once its scripts were flushed",
        |store, hooks| {
            Arc::new(Intercepted(Scripted { inner: store, flushed: hooks.scripts_flushed.clone() }))
        },
        &[
            "unknown::n82_flushed_scripts_between_calls_change_no_answer",
            "concurrency::sweeps::n82_flushed_scripts_under_load_lose_nothing",
        ],
    ),
    Broken::wrapped(
        "forgets everything when its server is killed",
        |store, hooks| {
            Arc::new(Intercepted(Volatile {
                kept: store,
                empty: Reference::new(),
                killed: hooks.server_killed.clone(),
            }))
        },
        &["crash::n85_a_killed_server_keeps_what_it_acknowledged"],
    ),
];

/// Marks a key as locked, and stays locked if the call is dropped.
#[derive(Debug)]
struct LeakyLock {
    inner: Arc<Reference>,
    locked: Mutex<HashSet<Key>>,
}

#[async_trait]
impl Intercept for LeakyLock {
    fn inner(&self) -> &Reference {
        &self.inner
    }

    async fn before(&self, key: &Key) -> Result<(), StoreError> {
        if !self.locked.lock().expect("nothing panics while it is held").insert(key.clone()) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, Effect::NotApplied, Operation::Reserve));
        }
        yield_now().await;
        Ok(())
    }

    fn after(&self, key: &Key) {
        self.locked.lock().expect("nothing panics while it is held").remove(key);
    }
}

/// Loads its scripts once, and fails when they are flushed.
#[derive(Debug)]
struct Scripted {
    inner: Arc<Reference>,
    flushed: Arc<AtomicBool>,
}

#[async_trait]
impl Intercept for Scripted {
    fn inner(&self) -> &Reference {
        &self.inner
    }

    async fn before(&self, _key: &Key) -> Result<(), StoreError> {
        if self.flushed.load(Ordering::SeqCst) {
            return Err(StoreError::new(StoreErrorKind::Internal, Effect::NotApplied, Operation::Reserve));
        }
        Ok(())
    }
}

/// Loses its data when its server is killed.
#[derive(Debug)]
struct Volatile {
    kept: Arc<Reference>,
    empty: Reference,
    killed: Arc<AtomicBool>,
}

impl Intercept for Volatile {
    fn inner(&self) -> &Reference {
        if self.killed.load(Ordering::SeqCst) { &self.empty } else { &self.kept }
    }
}
