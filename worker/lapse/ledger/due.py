"""When a rule makes an id due: the only such arithmetic in Python, as ``include/due.lua`` has it. No I/O."""

from collections.abc import Mapping
from typing import Any

from lapse.policy import Rule
from lapse.registry import keys

NEVER = float("-inf")


def due_of(record: Mapping[str, Any], rule: Rule | None) -> tuple[int | None, str]:
    """Return when a rule makes a record due and which part of it says so, as ``due.lua`` computes it."""
    created: Any = record.get("f") or record.get("c") or record.get("k")
    due, by = None, "orphan" if rule and rule.orphan else "unmanaged"
    if record.get("e"):
        due, by = record["e"], "expires_at"
    elif rule and rule.ttl and (record.get("f") or record.get("a")):
        anchor: Any = created if rule.anchor == "created_at" else record.get("f") or record.get("a")
        due, by = anchor + round(rule.ttl * 1000), "ttl"
    if rule and rule.max_age and created and (due is None or created + rule.max_age * 1000 < due):
        due, by = created + round(rule.max_age * 1000), "max_age"
    return due, by


def cutoffs(rule: Rule, now: int) -> dict[str, float]:
    """Return the cut-off of each due index in registry milliseconds, as ``candidates.lua`` computes them."""
    idle = now - rule.ttl * 1000 if rule.ttl and rule.anchor == "last_active_at" else NEVER
    aged = now - rule.max_age * 1000 if rule.max_age else NEVER
    capped = aged
    if rule.ttl and rule.anchor == "created_at":
        aged = max(aged, now - rule.ttl * 1000)
    return {
        keys.FRESH: max(idle, aged),
        keys.ACTIVE: idle,
        keys.CREATED: aged,
        keys.EXPLICIT: float(now),
        keys.CAPPED: capped,
    }
