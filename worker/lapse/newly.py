"""Counts what an edit of the policy file makes due at once, and stores the rules of the last enforced sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lapse import codec, enforced, keys
from lapse.control import plan_hash
from lapse.enforced import Edit, Range
from lapse.guard import Stand
from lapse.ledger import Ledger, Survey
from lapse.model import Partition
from lapse.policy import Rule

PAGE = 1000
"""Ids that one script looks at: about a millisecond."""
TOGETHER = 8
"""Pages in one round trip."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What range counts say: at least, and at most."""

    range: Range
    least: int
    most: int


async def look(ledger: Ledger, rule: Rule, survey: Survey) -> Survey:
    """Return the survey with what the edits since the last enforced sweep make due at once.

    Two index lookups decide in almost every case; else pages are counted until the limit is passed.
    """
    before = enforced.past(rules_before(rule, survey))
    wanted = enforced.ranges(enforced.reach(rule), enforced.common(before), survey.now)
    counted = await _counted(ledger, rule.partition, wanted)
    allowed = enforced.allowed(rule, before, survey.registered)
    newly = most = sum(one.most for one in counted)
    if sum(one.least for one in counted) <= allowed < most:
        newly = await _paged(ledger, rule.partition, counted, allowed)
    present = survey.registered or rule.orphan
    unknown = enforced.uncountable(rule, before, own_expiry=survey.own_expiry, kept=survey.kept) if present else ()
    edit = Edit(unknown, newly, most, allowed, moved=bool(wanted) and bool(before))
    return replace(survey, edit=edit)


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
class Asked:
    """What a plan names: how many ids, and whether they are orphans of a listing."""

    named: int
    listed: bool


async def asked(ledger: Ledger, partition: Partition, plan: str) -> Asked | None:
    """Return what a plan names, or None of one that an earlier version of lapse made."""
    name = keys.partition(ledger.namespace, partition.provider, partition.kind, partition.policy) + keys.RULES
    (stored,) = await ledger.carrier.run([("HGET", name, "newly_asked")])
    hash_, _, rest = (stored or b"").decode().partition(" ")
    number, _, how = rest.partition(" ")
    return Asked(int(number), how == "listed") if hash_ == plan else None


async def _counted(ledger: Ledger, partition: Partition, wanted: Sequence[Range]) -> list[Counted]:
    if not wanted:
        return []
    said = [[one.index, _score(one.after), _score(one.until), one.other, _score(one.beyond)] for one in wanted]
    call = ledger.on(partition, "count_ranges", codec.dump(said), parse=list)
    (reply,) = await ledger.carrier.carry([call])
    sizes, excluded = reply[::2], reply[1::2]
    return [Counted(one, max(0, size - out), size) for one, size, out in zip(wanted, sizes, excluded, strict=True)]


async def _paged(ledger: Ledger, partition: Partition, counted: Sequence[Counted], allowed: float) -> int:
    """Count what two indexes decide together, until it is more than allowed, or cannot be any more."""
    found: int = sum(one.most for one in counted if one.least == one.most)
    doubtful = [one for one in counted if one.least < one.most]
    left = sum(one.most for one in doubtful)
    for one in doubtful:
        for offset in range(0, one.most, TOGETHER * PAGE):
            calls = [_page(ledger, partition, one.range, offset + n * PAGE) for n in range(TOGETHER)]
            pages = await ledger.carrier.carry(calls)
            left -= sum(seen for seen, _ in pages)
            found += sum(n for _, n in pages)
            if found > allowed or found + left <= allowed:
                return found
    return found


def _page(ledger: Ledger, partition: Partition, wanted: Range, offset: int) -> Any:  # noqa: ANN401 - a call
    scores = (_score(wanted.after), _score(wanted.until), wanted.other, _score(wanted.beyond))
    return ledger.on(partition, "count_page", wanted.index, *scores, offset, PAGE, parse=list)


def _score(value: float) -> str:
    return f"{value:.0f}"
