"""The due rule stands in Lua, where it decides, and in Python, where it is shown: on any record and rule they agree."""

import json
from dataclasses import replace
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lapse.ledger.due import cutoffs, due_of
from lapse.policy import Orphan, Rule
from lapse.registry.scripts import script
from support.lua import PARTS
from support.rules import RULE

NOW = 1_800_000_000_000
ASKED = """
local record, rules, at = cjson.decode(ARGV[3]), cjson.decode(ARGV[4]), tonumber(ARGV[5])
now = at
local due, by = due_of(record, rules)
local cuts = cutoffs(rules)
for name, cut in pairs(cuts) do if cut == -math.huge then cuts[name] = nil end end
return cjson.encode({ due = due, by = by, cuts = cuts })
"""

times = st.integers(0, 2 * NOW)
records = st.fixed_dictionaries({}, optional=dict.fromkeys("facke", times))
seconds = st.floats(1, 1e9).map(lambda value: round(value, 3))


@st.composite
def rules(draw: st.DrawFn) -> Rule | None:
    """Return a rule as a policy file leads to one, or none at all."""
    kind = draw(st.sampled_from(["ttl", "orphan", "none"]))
    if kind == "none":
        return None
    ttl = kind == "ttl"
    return replace(
        RULE,
        ttl=draw(seconds) if ttl else None,
        anchor=draw(st.sampled_from(["created_at", "last_active_at"])) if ttl else None,
        max_age=draw(st.none() | seconds) if ttl else None,
        orphan=None if ttl else Orphan(86400, 3, None, uses_stated=False),
        digest="0123456789ab",
    )


def published(rule: Rule | None) -> dict[str, Any]:
    """Return a rule as a script reads it."""
    if rule is None:
        return {}
    said: dict[str, Any] = {"digest": rule.digest, "anchor": rule.anchor, "orphan": "1" if rule.orphan else None}
    said |= {name: value and round(value * 1000) for name, value in (("ttl", rule.ttl), ("max_age", rule.max_age))}
    return {name: value for name, value in said.items() if value}


def in_lua(raw: redis.Redis, record: dict[str, int], rule: Rule | None) -> dict[str, Any]:
    text = script(PARTS["candidates"]).text + ASKED
    said: Any = raw.eval(
        text, 1, "lapse:{openai:thread}:", "openai", "thread", json.dumps(record), json.dumps(published(rule)), str(NOW)
    )
    found: dict[str, Any] = json.loads(said)
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records, rule=rules())
def test_when_a_record_is_due(raw: redis.Redis, record: dict[str, int], rule: Rule | None) -> None:
    found = in_lua(raw, record, rule)

    assert (found.get("due"), found["by"]) == due_of(record, rule)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rule=rules())
def test_by_when_each_index_makes_due(raw: redis.Redis, rule: Rule | None) -> None:
    found = in_lua(raw, {}, rule)
    cuts = cutoffs(rule, NOW) if rule else {"explicit": NOW}

    assert found["cuts"] == {name: cut for name, cut in cuts.items() if cut != float("-inf")}
