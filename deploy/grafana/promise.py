"""Is what is due gone? The first row of the overview, and most of a policy's own dashboard."""

from panels import DAY, HOUR, NOTHING_YET, STATES, Json, graph, stat, steps, table, timeline
from queries import POLICY, gauge, increase, quantile, rate, state, total, within_a_day, worst

NAMED = "{{policy}} {{kind}} {{provider}} {{deployment}}"
NO_ITEMS = 'kind!~".*_item"'
BAD = steps(1, colours=("green", "red"))
WORTH_A_LOOK = steps(1, colours=("green", "orange"))

LATE = steps(HOUR, DAY)
TO_POLICY = [
    {
        "title": "This policy",
        "url": "/d/lapse-policy?var-deployment=${__data.fields.deployment}&var-provider=${__data.fields.provider}"
        "&var-kind=${__data.fields.kind}&var-policy=${__data.fields.policy}&${__url_time_range}",
    }
]


def coloured(thresholds: Json, **more: object) -> Json:
    """Return how a table's column is shown: its text coloured by thresholds."""
    return {"thresholds": thresholds, "custom.cellOptions": {"type": "color-text"}, **more}


ANSWERS = [
    stat(
        "Oldest overdue",
        "How late the oldest id is that should be gone, of all policies that enforce. 0 s: what is due is gone. "
        "Above a day the promise is broken: runbook LapsePromiseBroken.",
        f"floor({worst(gauge('lapse_oldest_overdue_seconds'))})",
        unit="s",
        thresholds=LATE,
    ),
    stat(
        "Gone within a day",
        "Of the ids settled in the last 30 days, the share that was gone within a day of being due. "
        "What is still there is not in it: Oldest overdue is.",
        within_a_day(),
        unit="percentunit",
        thresholds=steps(0.99, 0.999, colours=("red", "orange", "green")),
        decimals=1,
        mappings=[NOTHING_YET],
    ),
    stat(
        "Deleted, 30 days",
        "Deletions that the provider confirmed, items of conversations left out.",
        total(increase("lapse_deletions_total", "30d", NO_ITEMS)),
        unit="locale",
        decimals=0,
    ),
    stat(
        "Due clears in",
        "How long what is due now takes at the provider's rate: the slowest provider. "
        "Nothing is shown where no provider has a rate.",
        worst(gauge("lapse_backlog_clear_seconds")),
        unit="s",
        thresholds=LATE,
    ),
    stat(
        "Halted",
        "Policies that a guard has stopped; each waits for an operator. lapse status says why and what answers it. "
        "Runbook LapseHalted.",
        total(f"({state()}) == bool 3"),
        thresholds=BAD,
    ),
    stat(
        "Not enforcing",
        "Policies that delete nothing because they observe or are paused. What they cover stays at the provider. "
        "Runbooks LapseObserving, LapsePaused.",
        total(f"(({state()}) > bool 0) - (({state()}) == bool 3)"),
        thresholds=WORTH_A_LOOK,
    ),
    stat(
        "Quarantined",
        "Ids that nobody tries to delete any more until an operator says so: lapse quarantine list. "
        "Runbook LapseQuarantineNotEmpty.",
        total(gauge("lapse_quarantined")),
        thresholds=WORTH_A_LOOK,
    ),
    stat(
        "Unmanaged",
        "Ids registered under names that the policy file does not know. They are never deleted. "
        "Runbook LapseUnmanaged.",
        total(gauge("lapse_unmanaged")),
        thresholds=WORTH_A_LOOK,
    ),
]

BY_POLICY = table(
    "Policy by policy: is what is due gone?",
    "One line for each policy and kind. Due and overdue at 0 with the state enforcing: everything is gone that should "
    "be. A policy's name leads to its own dashboard.",
    [
        ("overdue", f"floor({gauge('lapse_oldest_overdue_seconds')})", coloured(LATE, unit="s")),
        ("state", state(), {"mappings": [STATES], "custom.cellOptions": {"type": "color-text"}}),
        ("due", gauge("lapse_due"), {"unit": "locale"}),
        ("deleted, 30 days", increase("lapse_deletions_total", "30d", NO_ITEMS), {"unit": "locale", "decimals": 0}),
        ("gone in a day", within_a_day(POLICY), {"unit": "percentunit", "decimals": 1, "mappings": [NOTHING_YET]}),
        ("registered", gauge("lapse_registered"), {"unit": "locale"}),
        ("quarantined", gauge("lapse_quarantined"), coloured(WORTH_A_LOOK)),
        ("last good sweep", f"time() - {gauge('lapse_last_success_timestamp_seconds')}", {"unit": "s"}),
    ],
    TO_POLICY,
)

OVERDUE = graph(
    "Oldest overdue",
    "How late the oldest due id is; 0 while a policy observes. It falls with every sweep that gets through; a line "
    "that climbs one second a second is a policy that deletes nothing. Dashed: one day.",
    [(gauge("lapse_oldest_overdue_seconds"), NAMED)],
    unit="s",
    limit=DAY,
)
LAG = graph(
    "From due to gone",
    "How long ids had been due when they were settled: half of them, 95 of 100, 99 of 100. The bounds of the "
    "histogram are coarse above an hour.",
    [
        (quantile(0.5, "lapse_deletion_lag_seconds", ""), "p50 {{deployment}}"),
        (quantile(0.95, "lapse_deletion_lag_seconds", ""), "p95 {{deployment}}"),
        (quantile(0.99, "lapse_deletion_lag_seconds", ""), "p99 {{deployment}}"),
    ],
    unit="s",
)
DELETIONS = graph(
    "Deletions a minute",
    "Deletions that the provider confirmed, and nothing else; items of conversations are a kind of their own.",
    [(f"60 * {rate('lapse_deletions_total')}", NAMED)],
    unit="opm",
    stack=True,
)
DUE = graph(
    "Due, and what would be deleted",
    "Ids past their policy, not held and not referenced. Would be deleted: due under a policy that does not delete, "
    "because it observes, is halted or paused.",
    [
        (gauge("lapse_due"), f"due: {NAMED}"),
        (f"{gauge('lapse_would_delete')} > 0", f"would be deleted: {NAMED}"),
    ],
)
FORECAST = graph(
    "Time to clear what is due",
    "Requests that what is due takes, by the provider's rate. No line where the rate is unlimited.",
    [(gauge("lapse_backlog_clear_seconds"), "{{provider}} {{deployment}}")],
    unit="s",
)
STATE = timeline(
    "What each policy does",
    "Enforcing, observing, paused or halted. A halt waits for an operator: lapse status. Runbook LapseHalted.",
    [(state(), NAMED)],
    STATES,
)

OF_ONE = [
    graph(
        "Protected and set aside",
        "Ids set aside because a hold or a reference protects them, and ids in quarantine.",
        [(gauge("lapse_parked"), f"set aside: {NAMED}"), (gauge("lapse_quarantined"), f"quarantined: {NAMED}")],
    ),
    graph(
        "Guards and crashes",
        "Times a guard halted the policy, and leases that ran out because a worker ended, in the time shown.",
        [
            (f"{increase('lapse_guard_trips_total', '$__range')} > 0", "{{guard}} {{policy}} {{kind}} {{deployment}}"),
            (increase("lapse_crashes_total", "$__range"), "crashes {{policy}} {{kind}} {{deployment}}"),
        ],
    ),
    graph(
        "Limited",
        "1 while max_deletions or the ramp is used up; goes on by itself with the next window or step. "
        "Runbook LapseLimitReached.",
        [(gauge("lapse_limited"), NAMED)],
    ),
    graph(
        "Since the last sweep that ended well",
        "Dashed: never for a whole day. Runbook LapseNoSuccessfulSweep.",
        [(f"time() - {gauge('lapse_last_success_timestamp_seconds')}", NAMED)],
        unit="s",
        limit=DAY,
    ),
]
