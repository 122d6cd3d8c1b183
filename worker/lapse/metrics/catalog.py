"""What is exported: every metric with its labels and meaning, and the words that its labels take. No I/O.

The README shows the same table. Every series has the label ``deployment`` too. A partition has at most 60 series, so
what grows with kinds or providers names no policy, and no label holds an id.
"""

from dataclasses import dataclass

from lapse.ledger.reasons import HaltReason

LAG_BOUNDS = ("10", "60", "300", "1800", "3600", "21600", "86400", "604800", "2592000")
REQUEST_BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30")
OUTCOMES = (
    "deleted",
    "already_gone",
    "error",
    "conflict",
    "unconfirmed",
    "unproven",
    "invalid",
    "forbidden",
    "unrecognised",
    "kept",
    "active",
    "refused",
)
RESULTS = (
    "completed",
    "budget_exhausted",
    "limited",
    "observed",
    "halted",
    "paused",
    "stopped",
    "refused",
    "divergence",
    "unproven",
    "undecided",
    "breaker",
)
GUARDS = tuple(HaltReason)
PARTITION = ("provider", "kind", "policy")


@dataclass(frozen=True, slots=True)
class Described:
    """One metric as the documentation shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


TABLE = (
    Described(
        "lapse_deletions_total", "counter", PARTITION, "Deletions that the provider confirmed, and nothing else."
    ),
    Described(
        "lapse_settled_total", "counter", (*PARTITION, "outcome"), "Attempts by what the provider's answer meant."
    ),
    Described(
        "lapse_requests_total", "counter", ("provider", "kind", "op", "status"), "Requests sent to the provider."
    ),
    Described("lapse_sweeps_total", "counter", (*PARTITION, "result"), "Sweeps by how they ended."),
    Described("lapse_guard_trips_total", "counter", (*PARTITION, "guard"), "Times a guard halted a policy."),
    Described("lapse_crashes_total", "counter", PARTITION, "Leases that ran out: a worker ended while it held the id."),
    Described(
        "lapse_children_left_total",
        "counter",
        ("provider", "kind", "reason"),
        "Objects that a cascade left when their parent went, by the parent's kind and why.",
    ),
    Described(
        "lapse_rate_limit_wait_seconds_total", "counter", ("provider", "kind"), "Seconds waited for request tokens."
    ),
    Described("lapse_deletion_lag_seconds", "histogram", PARTITION, "Seconds from due to settled."),
    Described("lapse_request_duration_seconds", "histogram", ("provider", "op"), "Seconds a request took."),
    Described("lapse_registered", "gauge", PARTITION, "Ids tracked."),
    Described("lapse_due", "gauge", PARTITION, "Ids past their policy, not held and not referenced."),
    Described("lapse_would_delete", "gauge", PARTITION, "Ids that are due while the policy does not delete."),
    Described("lapse_oldest_overdue_seconds", "gauge", PARTITION, "Lateness of the oldest due id; 0 while observing."),
    Described("lapse_quarantined", "gauge", PARTITION, "Ids that wait for an operator."),
    Described(
        "lapse_parked", "gauge", PARTITION, "Due ids that a hold or a reference protects, and held ones not yet due."
    ),
    Described("lapse_held", "gauge", ("provider", "kind"), "Holds, on registered ids or not."),
    Described(
        "lapse_unmanaged", "gauge", ("provider", "kind"), "Ids registered under names that the config does not know."
    ),
    Described("lapse_limited", "gauge", PARTITION, "1 while max_deletions or the ramp is used up."),
    Described("lapse_halted", "gauge", (*PARTITION, "reason"), "1 while a guard has halted the policy, by reason."),
    Described("lapse_paused", "gauge", PARTITION, "1 while an operator has paused it."),
    Described("lapse_enforcing", "gauge", PARTITION, "1 if it deletes: mode enforce, not halted, not paused."),
    Described("lapse_sweep_interval_seconds", "gauge", PARTITION, "How often beat wakes a sweep."),
    Described("lapse_expect_gone", "gauge", PARTITION, "1 where others delete the ids too: already_gone is no news."),
    Described(
        "lapse_orphans", "gauge", (*PARTITION, "state"), "Listed objects by what the last complete listing found."
    ),
    Described(
        "lapse_backlog_clear_seconds", "gauge", ("provider",), "Seconds that what is due takes at the provider's rate."
    ),
    Described(
        "lapse_rate_limit_requests_per_second",
        "gauge",
        ("provider",),
        "The provider's rate; no series where it is unlimited.",
    ),
    Described(
        "lapse_breaker_open",
        "gauge",
        ("provider",),
        "1 while requests are held back: refused credentials, an outage, or answers that all ids of a kind get.",
    ),
    Described("lapse_last_success_timestamp_seconds", "gauge", PARTITION, "When a sweep last ended well."),
    Described("lapse_audit_pending", "gauge", ("provider", "kind"), "Audit records that wait for their sink."),
    Described(
        "lapse_erasures",
        "gauge",
        ("state",),
        "Requests to erase a subject, by state; asked: by an application, and not taken up yet.",
    ),
    Described(
        "lapse_erasure_oldest_open_seconds",
        "gauge",
        (),
        "Seconds since the first asked whose request is still open; 0 if none is.",
    ),
    Described(
        "lapse_erasure_due_timestamp_seconds",
        "gauge",
        (),
        "When the next open request has to be done; no series while none is open.",
    ),
    Described("lapse_beat_last_tick_timestamp_seconds", "gauge", (), "When beat last sent a wake-up."),
    Described(
        "lapse_worker_last_tick_timestamp_seconds",
        "gauge",
        (),
        "When beat sent the last wake-up that came through the broker and a worker back to the registry.",
    ),
    Described("lapse_beat_interval_seconds", "gauge", (), "How often beat sends one at the least."),
    Described(
        "lapse_config_last_reload_successful",
        "gauge",
        (),
        "1 if the policy file on disk is in use, here and by the workers.",
    ),
    Described("lapse_config_info", "gauge", ("hash",), "1; the policy file in use."),
    Described("lapse_registry_up", "gauge", (), "1 if the registry answered this scrape."),
    Described("lapse_registry_time_seconds", "gauge", (), "The registry's clock, by which everything is due."),
    Described("lapse_registry_epoch_timestamp_seconds", "gauge", (), "When this registry was begun."),
    Described("lapse_build_info", "gauge", ("version",), "1; the version of lapse."),
)
