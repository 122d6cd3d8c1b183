"""Every fault and what shows that it is survived: test ids, those of ``make test-faults`` in modules named full_*."""

CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "T1": (
        "children and workers killed all the time: nothing lost",
        (
            "faults/test_crash.py::test_killed_children_and_workers_lose_nothing",
            "faults/full_crash.py::test_killed_children_and_workers_lose_nothing_of_ten_thousand",
        ),
    ),
    "T2": (
        "killed after claim, request, answer, and before and after the outcome is recorded",
        ("faults/full_crash.py::test_a_worker_killed_at_a_point_loses_nothing",),
    ),
    "T3": (
        "TERM in the middle of a sweep",
        (
            "runtime/test_running.py::test_a_term_ends_new_deletions_within_a_second",
            "runtime/test_running.py::test_a_term_to_the_whole_process_group_cuts_nothing_off",
            "runtime/test_running.py::test_other_pools_delete_and_stop_as_well",
        ),
    ),
    "T4": (
        "ids that kill their worker",
        ("faults/full_crash.py::test_ids_that_kill_their_worker_end_in_quarantine_and_the_others_are_deleted",),
    ),
    "T5": (
        "two beats, two workers",
        ("runtime/test_running.py::test_two_beats_and_two_workers_delete_everything_once",),
    ),
    "T6": (
        "a worker stopped for longer than its lease",
        (
            "faults/full_crash.py::test_what_a_stopped_worker_says_after_its_lease_is_refused",
            "sweep/test_sweep.py::test_an_outcome_after_the_lease_was_taken_over_is_refused",
        ),
    ),
    "T7": (
        "Redis killed among registrations",
        (
            "faults/test_registry.py::test_a_killed_redis_loses_no_acknowledged_registration",
            "faults/full_registry.py::test_a_killed_redis_loses_no_acknowledged_registration_of_ten_thousand",
        ),
    ),
    "T8": (
        "four restarts of Redis in eight seconds",
        ("faults/full_registry.py::test_four_restarts_in_eight_seconds",),
    ),
    "T9": (
        "half-open connections",
        ("faults/full_registry.py::test_half_open_connections_are_left_within_45_seconds",),
    ),
    "T10": (
        "Redis stands still, is far away, resets",
        (
            "faults/full_registry.py::test_a_redis_that_stands_still_for_half_a_minute",
            "faults/full_registry.py::test_a_redis_far_away_deletes_nothing_twice",
            "faults/full_registry.py::test_connections_that_are_reset_every_five_seconds",
        ),
    ),
    "T11": (
        "a wiped or wrong registry",
        (
            "guards/test_registry_guards.py::test_a_wiped_registry_halts_everything_and_nothing_is_deleted",
            "faults/full_registry.py::test_a_wiped_registry_halts_within_one_sweep_and_deletes_nothing",
        ),
    ),
    "T12": (
        "an older state of the registry",
        (
            "guards/test_registry_guards.py::test_an_older_state_of_the_registry_halts_until_an_operator_takes_it",
            "faults/full_registry.py::test_an_older_state_of_the_registry_halts",
        ),
    ),
    "T13": (
        "a full Redis, or one that evicts",
        (
            "guards/test_preflight.py::test_a_server_that_may_evict_registered_ids_is_refused",
            "ledger/test_full_redis.py::*",
            "faults/full_registry.py::test_a_full_redis_refuses_new_ids_at_once_and_goes_on_deleting",
            "faults/full_registry.py::test_a_full_redis_that_is_the_broker_too_loses_nothing",
        ),
    ),
    "T14": (
        "a failover, a server that loads, forgotten scripts, a user with few rights",
        (
            "registry/test_half_open.py::test_calls_go_on_at_the_new_primary",
            "registry/test_half_open.py::test_asyncio_calls_go_on_at_the_new_primary",
            "faults/full_failover.py::test_a_primary_that_becomes_a_replica_is_left_by_everybody",
            "faults/full_failover.py::test_a_worker_that_waits_for_a_message_outlives_a_failover",
            "faults/full_failover.py::test_a_server_that_loads_its_data_is_waited_for",
            "faults/full_cluster.py::test_a_slot_that_moves_again_and_again_loses_nothing",
            "faults/full_cluster.py::test_a_killed_primary_loses_no_hold_and_at_most_what_was_on_its_way_to_the_replica",
            "faults/full_cluster.py::test_a_failover_by_sentinels_loses_no_hold_and_at_most_what_was_on_its_way",
            "faults/full_lag.py::test_a_failover_loses_what_was_acknowledged_within_the_lag_and_no_hold_that_was_told",
            "runtime/test_sentinels.py::test_workers_and_their_broker_follow_the_primary",
            "sweep/test_cluster.py::*",
            "sweep/test_replicas.py::*",
            "sweep/test_gone_back.py::*",
            "registry/test_registry.py::test_calls_survive_a_server_that_forgot_its_scripts",
            "security/test_tls.py::test_over_tls_as_the_shipped_users_the_whole_job_is_done",
            "security/test_tls_cluster.py::*",
        ),
    ),
    "T15": (
        "429 with Retry-After",
        (
            "sweep/test_sweep.py::test_retry_after_holds_for_every_worker",
            "faults/full_provider.py::test_a_retry_after_is_kept_by_every_process",
        ),
    ),
    "T16": ("a third of all requests fails", ("faults/full_provider.py::test_a_third_of_all_requests_fails",)),
    "T17": (
        "an outage",
        (
            "faults/full_provider.py::test_an_outage_costs_a_probe_now_and_then_and_no_attempt",
            "ledger/test_bookkeeping.py::test_the_breaker_lets_one_request_through_and_closes_after_a_good_answer",
        ),
    ),
    "T18": (
        "refused credentials",
        (
            "sweep/test_sweep.py::test_credentials_that_are_refused_stop_the_provider_and_use_no_attempt",
            "faults/full_provider.py::test_refused_credentials_cost_three_requests_a_minute_and_no_attempt",
        ),
    ),
    "T19": (
        "answers that confirm nothing",
        (
            "sweep/test_sweep.py::test_an_answer_that_does_not_confirm_keeps_the_id_and_backs_off",
            "providers/test_transport.py::TestAnswer::test_redirects_are_not_followed",
        ),
    ),
    "T20": (
        "done, and the answer lost",
        (
            "faults/test_provider.py::test_a_deletion_whose_answer_was_lost_is_gone_already_and_counted_once",
            "faults/full_provider.py::test_answers_that_are_lost_all_and_then_some_are_gone_already",
        ),
    ),
    "T21": (
        "a conflict",
        (
            "unit/test_enforcement.py::test_an_attempt_counts_only_where_the_answer_is_about_this_id",
            "faults/full_provider.py::test_conflicts_back_off_and_are_deleted_in_the_end",
        ),
    ),
    "T22": (
        "answers slower than the timeout",
        (
            "providers/test_transport.py::TestFailure::test_no_answer_in_time",
            "providers/test_deletion.py::TestStandIn::test_executed_but_not_answered",
            "faults/full_provider.py::test_answers_slower_than_the_timeout_delete_nothing_twice",
        ),
    ),
    "T23": (
        "many partitions, few processes",
        (
            "runtime/test_running.py::test_more_partitions_than_processes_are_all_served",
            "faults/full_provider.py::test_a_backlog_of_one_policy_keeps_no_other_waiting",
        ),
    ),
    "T24": (
        "every id answers 404",
        (
            "sweep/test_sweep.py::test_everything_gone_without_a_witness_settles_nothing_and_halts",
            "sweep/test_sweep.py::test_a_wrong_project_loses_no_id",
            "sweep/test_sweep.py::test_a_sunset_endpoint_halts_at_its_first_answer",
        ),
    ),
    "T25": ("a canary", ("cli/test_canary.py::*",)),
    "T26": (
        "listings that are not whole",
        (
            "sweep/test_orphans.py::test_a_listing_that_is_not_complete_decides_nothing",
            "providers/test_pagination.py::TestIncomplete::test_a_cursor_that_goes_in_circles",
            "providers/test_pagination.py::TestStandIn::test_a_list_that_is_not_whole",
        ),
    ),
    "T27": ("listings that shrank", ("sweep/test_orphans.py::test_a_listing_that_shrank_by_half_decides_nothing",)),
    "T28": (
        "objects made during a listing",
        (
            "sweep/test_orphans.py::test_a_young_assistant_waits",
            "sweep/test_orphans.py::test_one_named_in_uses_between_two_listings_starts_over",
        ),
    ),
    "T29": (
        "a worker's clock is wrong",
        (
            "guards/test_registry_guards.py::test_a_worker_that_slept_sees_no_jump",
            "faults/full_clock.py::test_a_wrong_clock_of_a_worker_makes_nothing_due_and_keeps_nothing_alive",
            "faults/full_clock.py::test_a_clock_that_is_set_while_workers_and_beat_run_changes_nothing",
        ),
    ),
    "T30": (
        "Redis' clock jumps",
        (
            "guards/test_registry_guards.py::test_a_clock_that_jumps_ahead_makes_nothing_due",
            "guards/test_registry_guards.py::test_a_clock_that_jumps_within_a_sweep_refuses_the_next_claim",
            "guards/test_registry_guards.py::test_a_step_back_that_is_made_good_ends_its_halt_by_itself",
            "faults/full_clock.py::test_a_jump_of_redis_halts_before_any_claim_until_it_is_made_good",
            "faults/full_clock.py::test_a_jump_of_redis_within_a_sweep_claims_nothing_more",
            "faults/full_clock.py::test_a_step_back_that_an_operator_accepts_goes_on_by_the_new_clock",
        ),
    ),
    "T31": (
        "durations and times of any shape",
        (
            "unit/test_durations.py::test_any_other_text_is_refused_and_never_breaks_anything",
            "unit/test_codec.py::test_a_time_that_cannot_be_meant",
            "unit/test_codec.py::test_a_duration_that_cannot_be_meant",
        ),
    ),
    "T32": (
        "wrong policy files",
        (
            "unit/test_policy_refusals.py::test_every_wrong_value_of_every_key_is_refused_on_its_line",
            "unit/test_policy_refusals.py::test_what_has_no_default_is_missed_where_it_should_stand",
        ),
    ),
    "T33": (
        "livez and readyz in fourteen states",
        ("metrics/test_health.py::test_there_are_fourteen", "metrics/test_health.py::test_state"),
    ),
    "T34": (
        "a policy file replaced while it is read",
        (
            "unit/test_reload.py::test_a_file_that_is_being_written_is_taken_when_it_is_whole",
            "runtime/test_running.py::test_a_changed_config_is_used_without_a_restart_and_an_invalid_one_never",
        ),
    ),
    "T35": (
        "a change that makes much due",
        (
            "sweep/test_sweep.py::test_a_shortened_ttl_waits_for_approval",
            "sweep/test_sweep.py::test_a_first_enforcement_of_much_waits_for_approval",
        ),
    ),
    "T36": (
        "plan and deed are the same ids",
        ("sweep/test_same_ids.py::test_observed_planned_swept_and_applied_are_the_same",),
    ),
    "T37": ("a cap with workers racing", ("sweep/test_sweep.py::test_max_deletions_is_exact_with_two_workers_racing",)),
    "T38": (
        "nothing is not everything, zero not unlimited",
        (
            "sweep/test_sweep.py::test_an_empty_partition_sends_nothing",
            "unit/test_policy_refusals.py::test_every_wrong_value_of_every_key_is_refused_on_its_line",
        ),
    ),
    "T39": ("a pause under full load", ("faults/test_operator.py::test_a_pause_is_quiet_within_two_seconds",)),
    "T40": (
        "a hold against a claim",
        (
            "faults/test_races.py::test_what_is_said_during_a_sweep_counts_or_is_too_late",
            "faults/full_races.py::test_what_is_said_ten_thousand_times_counts_or_is_too_late",
        ),
    ),
    "T41": (
        "a touch against a claim",
        (
            "faults/test_races.py::test_what_is_said_during_a_sweep_counts_or_is_too_late",
            "faults/full_races.py::test_what_is_said_ten_thousand_times_counts_or_is_too_late",
        ),
    ),
    "T42": (
        "two namespaces on one Redis",
        (
            "registry/test_registry.py::test_two_namespaces_on_one_redis_do_not_meet",
            "cli/test_namespaces.py::test_one_deletes_nothing_of_the_other",
        ),
    ),
    "T43": (
        "Redis away among creates, and processes killed: what waits in a spool",
        (
            "faults/test_away.py::test_what_is_created_while_redis_is_away_is_registered_in_the_end",
            "faults/full_away.py::test_ten_thousand_created_while_redis_is_away_are_registered_in_the_end",
        ),
    ),
    "T52": ("everything at random", ("faults/full_chaos.py::test_everything_breaks_at_random",)),
}

PROMISES: dict[str, tuple[str, ...]] = {
    "An id is never lost, whatever dies": (
        "T1",
        "T2",
        "T4",
        "T5",
        "T6",
        "T7",
        "T8",
        "T9",
        "T10",
        "T13",
        "T14",
        "T23",
        "T43",
        "T52",
    ),
    "Nothing is deleted that should live": ("T29", "T30", "T31", "T35", "T38", "T40", "T41", "T42"),
    "Nothing is counted deleted that the provider did not confirm": ("T19", "T20", "T24", "T25"),
    "A wiped, wrong or older registry deletes nothing": ("T11", "T12"),
    "What is not listed whole is no orphan": ("T26", "T27", "T28"),
    "An outage, a limit or a refused key costs no id": ("T15", "T16", "T17", "T18", "T21", "T22"),
    "A mistake in the policy file is refused or waits": ("T32", "T34", "T35"),
    "An operator is obeyed at once, and told what is": ("T3", "T33", "T36", "T37", "T39"),
}
"""What is promised, and the cases that show it."""
