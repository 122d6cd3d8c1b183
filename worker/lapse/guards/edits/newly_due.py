"""Counts what an edit of the policy file makes due at once, and stores the rules of the last enforced sweep."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lapse.guards.edits import adoption
from lapse.guards.enforcement import Stand
from lapse.ledger.halts import plan_hash
from lapse.ledger.partition import Ledger, Survey
from lapse.policy import Rule, enforced
from lapse.policy.enforced import Edit, Range
from lapse.registry import codec, keys
from lapse.registry.model import Partition

PAGE = 1000
"""Ids that one script looks at: about a millisecond."""
TOGETHER = 8
"""Pages in one round trip."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What range counts say: ids in the range, and how many at most of these the other index leaves out."""

    range: Range
    most: int
    out: int

    @property
    def least(self) -> int:
        """How many are left at least."""
        return max(0, self.most - self.out)


async def look(ledger: Ledger, rule: Rule, survey: Survey) -> Survey:
    """Return the survey with what the edits since the last enforced sweep make due at once.

    The ids of old names are counted where they stand, each by the rules that it stood under: they are moved only once
    that is no reason to halt.
    """
    ours = rules_before(rule, survey)
    edit = await _look(
        ledger, rule, _Group(rule.partition, ours, survey.registered, survey.own_expiry, survey.kept), survey.now
    )
    parts = [
        await _look(ledger, rule, group, survey.now)
        for old in rule.formerly
        if (group := await _former(ledger, rule.partition, old, ours))
    ]
    return replace(survey, edit=replace(edit, parts=tuple(parts)))


@dataclass(frozen=True, slots=True)
class _Group:
    """Ids that stood under the same rules: where, how many, how many expire by themselves, how many are kept."""

    at: Partition
    rules: list[dict[str, Any] | None]
    population: int
    own_expiry: int
    kept: int


async def _former(ledger: Ledger, partition: Partition, old: str, ours: list[dict[str, Any] | None]) -> _Group | None:
    there = await adoption.present(ledger, partition, old)
    if there <= 0:
        return None
    at = replace(partition, policy=old)
    rules = await adoption.stood_under(ledger, partition, old)
    prefix = ledger.prefix(at)
    own, kept = await ledger.carrier.run([("ZCARD", prefix + keys.EXPLICIT), ("ZCARD", prefix + keys.KEPT)])
    return _Group(at, ours if rules is None else rules, there, own, kept)


async def _look(ledger: Ledger, rule: Rule, group: _Group, now: int) -> Edit:
    """Count one group. Two index lookups decide in almost every case; else pages, until the limit is passed."""
    before = enforced.past(group.rules)
    wanted = enforced.ranges(enforced.reach(rule), enforced.common(before), now)
    counted = await _counted(ledger, group.at, wanted)
    limits = enforced.limits(rule, before)
    allowed = enforced.allows(limits, group.population)
    newly = most = sum(one.most for one in counted)
    if sum(one.least for one in counted) <= allowed < most:
        newly = await _paged(ledger, group.at, counted, allowed)
    present = group.population or rule.orphan
    unknown = enforced.uncountable(rule, before, own_expiry=group.own_expiry, kept=group.kept) if present else ()
    return Edit(unknown, newly, most, limits, group.population, moved=bool(wanted) and bool(before))


async def stand_under(ledger: Ledger, rule: Rule, survey: Survey) -> None:
    """Make a rule the one that its ids stand under from now on, those of old names too."""
    fields = baseline(rule, survey)
    for name in (rule.partition.policy, *rule.formerly):
        await ledger.note(replace(rule.partition, policy=name), **fields)


def rules_before(rule: Rule, survey: Survey) -> list[dict[str, Any] | None]:
    """Return the stored rules of the last enforced sweep, none before the first.

    Where an earlier version of lapse wrote its cut-offs alone, and the rules were not changed since, these are they.
    """
    rules = enforced.read(survey.enforced, survey.base)
    legacy = any(one and "base" in one for one in rules)
    if legacy and survey.base and survey.since <= survey.base.at:
        return [enforced.stored(rule)]
    return rules


def baseline(rule: Rule, survey: Survey) -> dict[str, str | int]:
    """Return the fields that make a rule the one its ids stand under from this sweep on.

    Of an orphan rule, which objects it makes orphans is another question: that part of the old rules stays until a
    complete listing has answered it.
    """
    rules: list[dict[str, Any] | None] = [enforced.stored(rule)]
    if rule.orphan:
        rules = [_listed_by(enforced.stored(rule), one) for one in rules_before(rule, survey) or [None]]
    return _fields(rules, survey)


def _listed_by(rule: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    known = before if before and "base" not in before else {"orphan": None, "keep": []}
    orphan = known["orphan"] and known["orphan"] | {"uses_stated": rule["orphan"]["uses_stated"]}
    return rule | {
        "orphan": orphan,
        "listed_keep": known.get("listed_keep", known["keep"]),
        "max_newly_due": known.get("max_newly_due", rule["max_newly_due"]),
    }


def _fields(rules: Sequence[dict[str, Any] | None], survey: Survey) -> dict[str, str | int]:
    base = enforced.Base(survey.now, survey.active, survey.created, survey.capped)
    return base.fields() | {"enforced": enforced.text(survey.now, rules)}


async def plan(ledger: Ledger, rule: Rule, stand: Stand, survey: Survey, *, listed: bool = False) -> str:
    """Write down how many ids a halt's plan names; return the plan's name. ``listed``: orphans of a listing."""
    hash_ = plan_hash(rule.partition, rule.digest, f"{stand.halt}|{stand.named}", survey.due)
    await ledger.note(rule.partition, newly_asked=f"{hash_} {stand.named} {'listed' if listed else 'counted'}")
    return hash_


@dataclass(frozen=True, slots=True)
class AskedPlan:
    """What a plan names: how many ids, and whether they are orphans of a listing."""

    named: int
    listed: bool


async def asked(ledger: Ledger, partition: Partition, plan: str) -> AskedPlan | None:
    """Return what a plan names, or None of one that an earlier version of lapse made."""
    name = ledger.prefix(partition) + keys.RULES
    (stored,) = await ledger.carrier.run([("HGET", name, "newly_asked")])
    hash_, _, rest = (stored or b"").decode().partition(" ")
    number, _, how = rest.partition(" ")
    return AskedPlan(int(number), how == "listed") if hash_ == plan else None


async def _counted(ledger: Ledger, partition: Partition, wanted: Sequence[Range]) -> list[Counted]:
    if not wanted:
        return []
    said = [[one.index, _score(one.after), _score(one.until), one.other, _score(one.beyond)] for one in wanted]
    call = ledger.on(partition, "guards/lua/count_ranges", codec.dump(said), parse=list)
    (reply,) = await ledger.carrier.carry([call])
    sizes, excluded = reply[::2], reply[1::2]
    return [Counted(*one) for one in zip(wanted, sizes, excluded, strict=True)]


async def _paged(ledger: Ledger, partition: Partition, counted: Sequence[Counted], allowed: float) -> int:
    """Count what two indexes decide together, from its smaller side, until it is known to be too many or few enough."""
    least, most = sum(one.least for one in counted), sum(one.most for one in counted)
    for one in counted:
        side, inside = (one.out, False) if one.out < one.most else (one.most, True)
        for offset in range(0, side if one.out else 0, TOGETHER * PAGE):
            calls = [_page(ledger, partition, one.range, offset + n * PAGE, inside=inside) for n in range(TOGETHER)]
            for looked, met in await ledger.carrier.carry(calls):
                least += met if inside else looked - met
                most -= looked - met if inside else met
            if least > allowed or most <= allowed:
                return least if least > allowed else most
    return most


def _page(ledger: Ledger, partition: Partition, wanted: Range, offset: int, *, inside: bool) -> Any:
    """Return a look at one page of a range, or of what may not count of it: how many ids, and how many are in both."""
    counts = (wanted.index, wanted.after, wanted.until)
    left_out = (wanted.other, -math.inf, wanted.beyond)
    sides = (counts, (wanted.other, wanted.beyond, math.inf)) if inside else (left_out, counts)
    said = [part if isinstance(part, str) else _score(part) for side in sides for part in side]
    return ledger.on(partition, "guards/lua/count_page", *said, offset, PAGE, parse=list)


def _score(value: float) -> str:
    return f"{value:.0f}"
