"""Requests to erase a subject: how many are open, how long they have waited, and by when they have to be done."""

from panels import DAY, graph, stat, steps
from queries import chosen, gauge, total, worst

OPEN = chosen("lapse_erasures", 'state="open"')
DUE = chosen("lapse_erasure_due_timestamp_seconds")

ERASURES = [
    stat(
        "Open requests",
        "Requests to erase a subject that are not complete: lapse doctor says what stands in the way of those that are "
        "late. One that is done stays open for a day, for registrations that come late.",
        total(f"max by (deployment, state) (lapse_erasures{OPEN})"),
    ),
    stat(
        "Next one is due in",
        "When the next open request has to be done; below zero it is late. Nothing is shown while none is open. "
        "Runbook LapseErasureOverdue.",
        f"min by (deployment) (lapse_erasure_due_timestamp_seconds{DUE}) - time()",
        unit="s",
        thresholds=steps(0, 7 * DAY, colours=("red", "orange", "green")),
    ),
    stat(
        "First one waits since",
        "How long ago the first person asked whose request is still open; 0 s if nobody waits.",
        worst(gauge("lapse_erasure_oldest_open_seconds")),
        unit="s",
        thresholds=steps(23 * DAY, 30 * DAY),
    ),
    graph(
        "Requests by state",
        "asked: by an application, and no worker has taken it up yet: [erasure] rate lets so many pass. refused: the "
        "policy file does not let applications ask.",
        [(gauge("lapse_erasures"), "{{state}} {{deployment}}")],
    ),
]
