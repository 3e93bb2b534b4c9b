//! Cases that no bug was planted for: a planted bug that each of them also catches, or why there is none.

/// Such a case, and a bug that it catches.
pub(crate) const ALSO_CAUGHT: &[(&str, &str)] = &[
    (
        "engine::format::n108_an_answer_of_another_codec_is_an_error_and_not_run_again",
        "acknowledges a completion and stores nothing",
    ),
    (
        "engine::format::n108_an_answer_of_another_schema_is_an_error_and_not_run_again",
        "stores the bytes and not their format",
    ),
    (
        "engine::format::n91_an_answer_that_is_too_large_for_the_store_is_not_kept_and_not_run_again",
        "cuts what is too large for it",
    ),
    ("engine::guard::n112_a_dropped_guard_is_abandoned", "does not show that a record is abandoned"),
    ("engine::guard::n112_a_guard_abandons", "takes an abandoned key for a free one"),
    ("engine::guard::n112_a_guard_completes", "replays another answer than was stored"),
    ("engine::guard::n112_a_guard_releases", "counts a released attempt"),
    (
        "engine::handler::n100_after_a_panic_the_next_caller_runs_at_once_as_attempt_2",
        "takes an abandoned key for a free one",
    ),
    (
        "engine::handler::n101_after_a_dropped_execution_the_next_caller_runs_at_once_as_attempt_2",
        "does not show that a record is abandoned",
    ),
    (
        "engine::handler::n102_an_execution_dropped_after_its_handler_returned_is_completed",
        "locks a key for a call, and forever if the call is dropped",
    ),
    (
        "engine::handler::n103_a_detached_handler_survives_its_caller",
        "locks a key for a call, and forever if the call is dropped",
    ),
    ("engine::handler::n98_a_request_is_executed_and_then_replayed", "stores the bytes and not their format"),
    ("engine::handler::n98_a_request_is_replayed_by_another_engine", "keeps data for each handle"),
    ("engine::handler::n98_a_value_without_bytes_is_replayed", "takes an empty answer for none"),
    ("engine::handler::n99_a_handlers_error_frees_the_key_for_attempt_1", "counts a released attempt"),
    (
        "engine::handler::n99_a_handlers_error_that_proves_nothing_abandons_the_key",
        "takes an abandoned key for a free one",
    ),
    (
        "engine::lease::n107_a_lease_that_cannot_be_renewed_is_seen_as_lost_by_the_handler",
        "refuses the completion of an owner whose lease is over and was not taken",
    ),
    (
        "engine::lease::n107_a_lease_that_was_lost_and_taken_is_an_outcome_of_its_own",
        "accepts the completion of an expired lease after the takeover",
    ),
    (
        "engine::lease::n107_a_run_whose_lease_was_taken_gets_the_answer_of_the_accepted_run",
        "gives the winner a lease that is over",
    ),
    ("engine::lease::n109_a_heartbeat_keeps_the_key_of_a_long_handler", "renews at most once"),
    ("engine::lease::n109_a_hung_handler_holds_its_key_no_longer_than_max_renewal", "renews at most once"),
    ("engine::operator::n110_a_shutdown_abandons_what_remains", "takes an abandoned key for a free one"),
    ("engine::operator::n110_a_shutdown_waits_for_what_ends", "acknowledges a completion and stores nothing"),
    ("engine::operator::n110_after_a_shutdown_nothing_new_runs", "shows a record for an absent key"),
    (
        "engine::operator::n111_an_expired_key_is_refused_until_it_is_resolved",
        "lets a refusing caller wait for the lease that was given up",
    ),
    (
        "engine::operator::n111_an_operator_completes_an_expired_key",
        "does not show that a record is abandoned",
    ),
    (
        "engine::operator::n111_an_operator_does_not_disturb_a_live_owner",
        "acknowledges a completion and stores nothing",
    ),
    ("engine::operator::n111_an_operator_finds_nothing_to_resolve", "shows a record for an absent key"),
    (
        "engine::operator::n111_an_operator_releases_an_expired_key",
        "refuses a released key to a caller that takes no leases over",
    ),
    ("engine::store_down::n104_a_reservation_given_up_as_unknown_is_released", "shows a tombstone"),
    ("engine::store_down::n104_with_the_store_down_the_handler_does_not_run", "counts attempts from 0"),
    (
        "engine::store_down::n105_failing_open_never_covers_a_store_that_answered_with_an_error",
        "counts attempts from 0",
    ),
    (
        "engine::store_down::n106_a_completion_that_fails_is_sent_again",
        "stores the bytes and not their format",
    ),
    (
        "engine::store_down::n106_a_completion_that_is_never_acknowledged_is_unrecorded",
        "takes a lease over that still runs",
    ),
    (
        "engine::store_down::n106_a_completion_whose_reply_is_lost_is_an_execution",
        "stores the bytes and not their format",
    ),
    (
        "engine::waiting::n71_a_thousand_waiters_cost_the_store_what_one_costs",
        "gives the winner a lease that is over",
    ),
    (
        "engine::waiting::n71_a_thousand_waiters_of_another_process_cost_the_store_what_one_costs",
        "shows another format",
    ),
    (
        "engine::waiting::n71_when_the_owner_vanishes_exactly_one_waiter_runs",
        "does not show that a record is abandoned",
    ),
    ("engine::waiting::n72_a_slow_key_delays_no_other", "takes a part of one byte for none"),
    (
        "engine::waiting::n73_a_waiter_that_joins_at_the_instant_of_completion_gets_the_answer",
        "stores the bytes and not their format",
    ),
    (
        "engine::waiting::n74_waiters_with_another_payload_get_no_bytes",
        "hands the record to the mismatched caller",
    ),
    ("model::random_sequences_agree_with_the_oracle", "shortens the lease when the owner reserves again"),
    (
        "model::sequences_that_once_failed_agree_with_the_oracle",
        "forgets the attempt of a released takeover with its tombstone",
    ),
    ("unknown::n76_a_reserve_that_never_arrived_is_reserved_when_resent", "counts attempts from 0"),
];

/// Prefixes of cases that catch no bug here, and why.
pub(crate) const CATCH_NONE: &[(&str, &str)] = &[
    ("crash::n83_", PROCESS),
    ("crash::n84_", PROCESS),
    ("crash::n86_", PROCESS),
    ("crash::n87_", PROCESS),
    ("model::random_sequences_of_two_processes_", PROCESS),
    ("linearizability::an_order_explains_every_answer_of_clients_in_two_processes", PROCESS),
    ("encoding::n89_", STORED_FORM),
    ("encoding::n90_", STORED_FORM),
    ("engine::waiting::n71_a_thousand_waiters_have_one_run_", ENGINE),
    ("engine::handler::n99_a_handlers_error_is_returned_untouched", ENGINE),
    ("engine::handler::n100_a_panic_reaches_its_caller", ENGINE),
    ("engine::store_down::n105_failing_open_the_handler_runs_", ENGINE),
];

const PROCESS: &str = "needs a store that outlives its process; the backend in `outside/` runs it";
const STORED_FORM: &str = "needs a stored form with versions, which only a backend has";
const ENGINE: &str = "checks the engine alone; the store gets one call, or does not answer at all";
