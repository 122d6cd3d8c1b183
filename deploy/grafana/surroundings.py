"""What deletions depend on: providers, the registry, beat and the workers."""

from panels import graph, stat, steps, timeline
from queries import CONFIG_IN_USE, chosen, gauge, quantile, rate, worst

NAMED = "{{policy}} {{kind}} {{provider}} {{deployment}}"
BY_KIND = "{{kind}} {{provider}} {{deployment}}"
GOOD = rate("lapse_requests_total", 'status=~"2..|404|409"')
RATE = gauge("lapse_rate_limit_requests_per_second")
PER_PROVIDER = "sum by (deployment, provider)"
BUDGET = f"{PER_PROVIDER} ({rate('lapse_requests_total')}) / on (deployment, provider) {RATE}"

CLOCK = f"lapse_registry_time_seconds{chosen('lapse_registry_time_seconds')}"
PROVIDER = [
    graph(
        "Requests by answer",
        "Every request sent, by the provider's status or by the failure that took its place.",
        [
            (
                f"sum by (deployment, provider, status) ({rate('lapse_requests_total')})",
                "{{status}} {{provider}} {{deployment}}",
            )
        ],
        unit="reqps",
        stack=True,
    ),
    graph(
        "Errors",
        "Share of the requests that were answered other than 2xx, 404 or 409, or not at all. Runbooks "
        "LapseProviderAuthFailed, LapseRateLimited, LapseBreakerOpen.",
        [
            (
                f"1 - {PER_PROVIDER} ({GOOD}) / {PER_PROVIDER} ({rate('lapse_requests_total')})",
                "{{provider}} {{deployment}}",
            )
        ],
        unit="percentunit",
    ),
    graph(
        "Latency",
        "Seconds until the provider answered: p50 and p95 of each operation.",
        [
            (quantile(0.5, "lapse_request_duration_seconds", "provider, op"), "p50 {{op}} {{provider}} {{deployment}}"),
            (
                quantile(0.95, "lapse_request_duration_seconds", "provider, op"),
                "p95 {{op}} {{provider}} {{deployment}}",
            ),
        ],
        unit="s",
    ),
    graph(
        "Requests against the budget",
        "Requests a second as a share of the provider's rate, which all workers share. At 1 deletions wait for it. "
        "No line where the rate is unlimited.",
        [
            (
                BUDGET,
                "{{provider}} {{deployment}}",
            )
        ],
        unit="percentunit",
        limit=1,
    ),
    graph(
        "Waiting for the budget",
        "Seconds a second that sweeps waited for request tokens. Above 0 with due ids left: the rate is what limits.",
        [(rate("lapse_rate_limit_wait_seconds_total"), BY_KIND)],
        unit="s",
    ),
    timeline(
        "Circuit breaker",
        "Open: requests are held back after refused credentials, an exhausted quota or an outage; one probe goes out "
        "at a time. Runbook LapseBreakerOpen.",
        [(gauge("lapse_breaker_open"), "{{provider}} {{deployment}}")],
        {
            "type": "value",
            "options": {
                "0": {"text": "closed", "color": "green", "index": 0},
                "1": {"text": "OPEN", "color": "red", "index": 1},
            },
        },
    ),
]

REGISTRY = [
    graph(
        "Registered",
        "Ids tracked. A sudden fall is a lost registry: runbook LapseRegistryShrunk.",
        [(gauge("lapse_registered"), NAMED)],
        stack=True,
    ),
    graph(
        "Held and protected",
        "Holds, on registered ids or not; and ids set aside because a hold or a reference protects them.",
        [(gauge("lapse_held"), f"holds: {BY_KIND}"), (gauge("lapse_parked"), f"set aside: {NAMED}")],
    ),
    graph(
        "Unmanaged",
        "Ids under names that the policy file does not know: a typing error in the application, or a policy that was "
        "removed. Nothing deletes them. Runbook LapseUnmanaged.",
        [(gauge("lapse_unmanaged"), BY_KIND)],
    ),
    graph(
        "Quarantined",
        "Ids that wait for an operator: lapse quarantine list. Runbook LapseQuarantineNotEmpty.",
        [(gauge("lapse_quarantined"), NAMED)],
    ),
    graph(
        "Orphans by what the last complete listing found",
        "Listed objects that no registration names: candidates become ripe after enough complete listings in a row.",
        [(gauge("lapse_orphans"), "{{state}} {{policy}} {{kind}} {{deployment}}")],
        stack=True,
    ),
    graph(
        "Audit records waiting",
        "Audit records that their sink has not taken. A full stream stops deletions. Runbook LapseAuditPending.",
        [(gauge("lapse_audit_pending"), BY_KIND)],
    ),
]

SURROUNDINGS = [
    stat(
        "Registry",
        "1 if the registry answers the exporter. Runbook LapseRegistryDown.",
        gauge("lapse_registry_up"),
        thresholds=steps(1, colours=("red", "green")),
        mappings=[{"type": "value", "options": {"0": {"text": "away"}, "1": {"text": "answers"}}}],
    ),
    stat(
        "Registry begun",
        "When this registry was begun, its epoch. If it moves, the registry was lost.",
        f"1000 * {gauge('lapse_registry_epoch_timestamp_seconds')}",
        unit="dateTimeFromNow",
    ),
    stat(
        "Clock",
        "How far the registry's clock, by which everything is due, is from Prometheus' own. Runbook LapseClockSkew.",
        worst(f"abs({CLOCK} - timestamp({CLOCK}))"),
        unit="s",
        thresholds=steps(30, 60),
    ),
    stat(
        "Beat's last wake-up",
        "Runbook LapseBeatMissing.",
        f"time() - {gauge('lapse_beat_last_tick_timestamp_seconds')}",
        unit="s",
        thresholds=steps(180, 600),
    ),
    stat(
        "Last wake-up that came back",
        "From beat through the broker and a worker to the registry. Runbook LapseCanaryStale.",
        f"time() - {gauge('lapse_worker_last_tick_timestamp_seconds')}",
        unit="s",
        thresholds=steps(180, 600),
    ),
    stat(
        "Policy file",
        "Whether the file on disk is the one in use. Runbook LapseConfigReloadFailed.",
        CONFIG_IN_USE,
        thresholds=steps(1, colours=("red", "green")),
        mappings=[{"type": "value", "options": {"0": {"text": "REFUSED"}, "1": {"text": "in use"}}}],
    ),
]

SWEEPS = [
    graph(
        "Sweeps a minute by how they ended",
        "completed: nothing due was left. limited, budget_exhausted: goes on by itself. All others delete nothing.",
        [(f"60 * sum by (deployment, result) ({rate('lapse_sweeps_total')})", "{{result}} {{deployment}}")],
        unit="opm",
        stack=True,
    ),
    graph(
        "Answers a minute by what they meant",
        "Every attempt to delete an id. already_gone: the provider does not know it, with proof that lapse looks at "
        "the right place. unproven: without one, so the id is kept.",
        [(f"60 * sum by (deployment, outcome) ({rate('lapse_settled_total')})", "{{outcome}} {{deployment}}")],
        unit="opm",
        stack=True,
    ),
    graph(
        "Left behind by cascades",
        "Objects that were left when what they belonged to went, in all: held, used elsewhere, or not provably ours "
        "(foreign). Nothing deletes them unless a policy of their own does.",
        [(gauge("lapse_children_left_total"), "{{reason}} {{kind}} {{provider}} {{deployment}}")],
    ),
]
