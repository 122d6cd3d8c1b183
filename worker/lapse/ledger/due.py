"""When a rule makes an id due: the only such arithmetic in Python, as ``include/due.lua`` has it. No I/O."""

from collections.abc import Mapping
from typing import Any

from lapse.policy import Rule
from lapse.registry import keys

NEVER = float("-inf")


def due_of(record: Mapping[str, Any], rule: Rule | None) -> tuple[int | None, str]:
    """Return when a rule makes a record due and which part of it says so, as ``due.lua`` computes it."""
    created, active = _first(record, "f", "c", "k"), _first(record, "f", "a")
    due, by = record.get("e"), "expires_at"
    if due is None and rule and rule.ttl and active is not None:
        anchor = created if rule.anchor == "created_at" and created is not None else active
        due, by = anchor + _millis(rule.ttl), "ttl"
    if rule and rule.max_age and created is not None and (due is None or created + _millis(rule.max_age) < due):
        due, by = created + _millis(rule.max_age), "max_age"
    if due is not None:
        return due, by
    return None, "orphan" if rule and rule.orphan else "unmanaged"


def cutoffs(rule: Rule, now: int) -> dict[str, float]:
    """Return the cut-off of each due index in registry milliseconds, as ``candidates.lua`` computes them."""
    idle = now - _millis(rule.ttl) if rule.ttl and rule.anchor == "last_active_at" else NEVER
    aged = now - _millis(rule.max_age) if rule.max_age else NEVER
    capped = aged
    if rule.ttl and rule.anchor == "created_at":
        aged = max(aged, now - _millis(rule.ttl))
    return {
        keys.FRESH: max(idle, aged),
        keys.ACTIVE: idle,
        keys.CREATED: aged,
        keys.EXPLICIT: float(now),
        keys.CAPPED: capped,
    }


def terms(rule: Rule) -> dict[str, str | int]:
    """Return what of a rule makes ids due, as ``due.lua`` takes it; what it does not say is left out."""
    said: dict[str, str | int | None] = {
        "ttl": None if rule.ttl is None else _millis(rule.ttl),
        "anchor": rule.anchor,
        "max_age": None if rule.max_age is None else _millis(rule.max_age),
        "orphan": 1 if rule.orphan else None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _first(record: Mapping[str, Any], *fields: str) -> int | None:
    return next((record[field] for field in fields if record.get(field) is not None), None)


def _millis(seconds: float) -> int:
    return round(seconds * 1000)  # as a rule is published
