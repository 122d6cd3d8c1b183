"""What is exported: every metric with its labels and meaning, and the words that its labels take. No I/O.

The README shows the same table. Every series has the label ``deployment`` too. A partition has at most 60 series, so
what grows with kinds or providers names no policy, and no label holds an id.
"""

from collections.abc import Mapping
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


_Rows = Mapping[str, tuple[tuple[str, ...], str]]

_COUNTERS: _Rows = {
    "lapse_deletions_total": (PARTITION, "Deletions that the provider confirmed, and nothing else."),
    "lapse_settled_total": ((*PARTITION, "outcome"), "Attempts by what the provider's answer meant."),
    "lapse_requests_total": (("provider", "kind", "op", "status"), "Requests sent to the provider."),
    "lapse_sweeps_total": ((*PARTITION, "result"), "Sweeps by how they ended."),
    "lapse_guard_trips_total": ((*PARTITION, "guard"), "Times a guard halted a policy."),
    "lapse_crashes_total": (PARTITION, "Leases that ran out: a worker ended while it held the id."),
    "lapse_children_left_total": (
        ("provider", "kind", "reason"),
        "Objects that a cascade left when their parent went, by the parent's kind and why.",
    ),
    "lapse_rate_limit_wait_seconds_total": (("provider", "kind"), "Seconds waited for request tokens."),
}
_HISTOGRAMS: _Rows = {
    "lapse_deletion_lag_seconds": (PARTITION, "Seconds from due to settled."),
    "lapse_request_duration_seconds": (("provider", "op"), "Seconds a request took."),
}
_GAUGES: _Rows = {
    "lapse_registered": (PARTITION, "Ids tracked."),
    "lapse_due": (PARTITION, "Ids past their policy, not held and not referenced."),
    "lapse_would_delete": (PARTITION, "Ids that are due while the policy does not delete."),
    "lapse_oldest_overdue_seconds": (PARTITION, "Lateness of the oldest due id; 0 while observing."),
    "lapse_quarantined": (PARTITION, "Ids that wait for an operator."),
    "lapse_parked": (PARTITION, "Due ids that a hold or a reference protects, and held ones not yet due."),
    "lapse_held": (("provider", "kind"), "Holds, on registered ids or not."),
    "lapse_unmanaged": (("provider", "kind"), "Ids registered under names that the config does not know."),
    "lapse_limited": (PARTITION, "1 while max_deletions or the ramp is used up."),
    "lapse_halted": ((*PARTITION, "reason"), "1 while a guard has halted the policy, by reason."),
    "lapse_paused": (PARTITION, "1 while an operator has paused it."),
    "lapse_enforcing": (PARTITION, "1 if it deletes: mode enforce, not halted, not paused."),
    "lapse_sweep_interval_seconds": (PARTITION, "How often beat wakes a sweep."),
    "lapse_expect_gone": (PARTITION, "1 where others delete the ids too: already_gone is no news."),
    "lapse_orphans": ((*PARTITION, "state"), "Listed objects by what the last complete listing found."),
    "lapse_backlog_clear_seconds": (("provider",), "Seconds that what is due takes at the provider's rate."),
    "lapse_rate_limit_requests_per_second": (("provider",), "The provider's rate; no series where it is unlimited."),
    "lapse_breaker_open": (
        ("provider",),
        "1 while requests are held back: refused credentials, an outage, or answers that all ids of a kind get.",
    ),
    "lapse_last_success_timestamp_seconds": (PARTITION, "When a sweep last ended well."),
    "lapse_audit_pending": (("provider", "kind"), "Audit records that wait for their sink."),
    "lapse_erasures": (
        ("state",),
        "Requests to erase a subject, by state; asked: by an application, and not taken up yet.",
    ),
    "lapse_erasure_oldest_open_seconds": (
        (),
        "Seconds since the first asked whose request is still open; 0 if none is.",
    ),
    "lapse_erasure_due_timestamp_seconds": (
        (),
        "When the next open request has to be done; no series while none is open.",
    ),
    "lapse_beat_last_tick_timestamp_seconds": ((), "When beat last sent a wake-up."),
    "lapse_worker_last_tick_timestamp_seconds": (
        (),
        "When beat sent the last wake-up that came through the broker and a worker back to the registry.",
    ),
    "lapse_beat_interval_seconds": ((), "How often beat sends one at the least."),
    "lapse_config_last_reload_successful": ((), "1 if the policy file on disk is in use, here and by the workers."),
    "lapse_config_info": (("hash",), "1; the policy file in use."),
    "lapse_registry_up": ((), "1 if the registry answered this scrape."),
    "lapse_registry_time_seconds": ((), "The registry's clock, by which everything is due."),
    "lapse_registry_epoch_timestamp_seconds": ((), "When this registry was begun."),
    "lapse_build_info": (("version",), "1; the version of lapse."),
}
TABLE = tuple(
    Described(name, type_, labels, help_)
    for type_, rows in (("counter", _COUNTERS), ("histogram", _HISTOGRAMS), ("gauge", _GAUGES))
    for name, (labels, help_) in rows.items()
)
