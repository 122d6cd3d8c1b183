"""How many requests deletions take, and how long: what `plan`, `check-config` and the metrics show. No I/O."""

import math

from lapse import durations
from lapse.policy.preconditions import follows, preconditions_of
from lapse.policy.rules import Rule
from lapse.providers.kinds import Kind


def requests(rule: Rule, kind: Kind, ids: int, extra: float | None = None) -> int:
    """Return how many requests deleting so many ids takes: a look, items and children, then the id itself.

    ``extra``: how many each one took before its own so far; None: none was seen yet, and children count as one request.
    """
    if extra is None:
        asked = preconditions_of(rule, kind, "orphan" if rule.orphan else "ttl", 0)
        looks = asked.ask(kind) + bool(kind.runs and not asked.resting)
        extra = looks + bool((kind.child and asked.items) or follows(rule, kind))
    return ids + math.ceil(ids * extra)


OFTEN = 10
"""From so many a second on, a rate is told by the second."""


def forecast(requests: int, rate: float | None) -> str:
    """Say how long a number of requests takes at a rate per second: ``"21m at 60/m"``."""
    if rate is None:
        return "no rate limit"
    return f"{durations.show(max(1.0, requests / rate))} at {_per(rate)}"


def _per(rate: float) -> str:
    """Return a rate as a person writes it."""
    return f"{rate:g}/s" if rate > OFTEN and rate == int(rate) else f"{rate * 60:g}/m"
