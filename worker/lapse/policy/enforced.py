"""The rules that a partition's ids stood under when they were last enforced, and what an edit does to them. No I/O.

They are stored with every enforced sweep. What is due now and was not due under them is *newly due*: made so by an edit
of the policy file, not by time. Several rules are stored where ids came from an old name (``formerly``): what counts as
due under them is due under each.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lapse.policy import Keep, Orphan, Rule, Share
from lapse.registry import codec

STALE = 10
"""How many more than a plan named, or a tenth of it, an approval still covers."""
DEFAULT = Share(percent=20, at_least=100)
"""The limit of what an earlier version of lapse enforced: it wrote cut-offs down, and no limit."""
_RANKS = {"protect": 0, "leave": 1, "delete": 2}
_NOT_STORED = {"partition", "every"}


@dataclass(frozen=True, slots=True)
class Reach:
    """From which age on a rule makes an id due, in milliseconds; infinite: never.

    Attributes:
        idle: Since its last activity.
        aged: Since its creation.
        cap: Since its creation, where it has an expiry of its own.
        expiries: True if an expiry of its own makes it due.

    """

    idle: float = math.inf
    aged: float = math.inf
    cap: float = math.inf
    expiries: bool = False


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of a rule that ids stood under.

    ``keep`` and ``cascade`` are None where an earlier version of lapse did not store them, ``limit`` is None where
    there was none. ``orphan`` and ``listed_keep`` are those that a complete listing was last judged by.
    """

    reach: Reach
    limit: Share | None = None
    keep: tuple[Keep, ...] | None = ()
    cascade: Mapping[str, str] | None = None
    touches_stated: bool = True
    orphan: Orphan | None = None
    listed_keep: tuple[Keep, ...] = ()


NEVER = Past(Reach())
"""Stands for ids that no enforced rule covered: all of them that are due are newly due."""


@dataclass(frozen=True, slots=True)
class Base:
    """The cut-offs of the last enforced sweep, in registry milliseconds, as every version of lapse writes them."""

    at: int
    active: int | None = None
    created: int | None = None
    capped: int | None = None

    def fields(self) -> dict[str, str | int]:
        """Return them as they are stored; an empty text stands for none, and overwrites an older one."""
        named = (("base_active", self.active), ("base_created", self.created), ("base_capped", self.capped))
        return {"base_at": self.at} | {name: "" if cut is None else cut for name, cut in named}


@dataclass(frozen=True, slots=True)
class Edit:
    """What the edits since the last enforced sweep make due at once.

    Attributes:
        uncountable: What of them cannot be counted without asking the provider, in words.
        newly: How many ids, as far as that had to be counted.
        most: How many at most, by range counts alone: what a plan names.
        limits: How many may become due without an approval: each of these holds; none: any number may.
        population: How many ids there are.
        moved: True if a cut-off moved further than the clock.
        parts: The same of each old name whose ids are to be adopted.

    """

    uncountable: tuple[str, ...] = ()
    newly: int = 0
    most: int = 0
    limits: tuple[Share, ...] = ()
    population: int = 0
    moved: bool = False
    parts: tuple["Edit", ...] = ()

    @property
    def named(self) -> int:
        """How many ids a plan names."""
        return self.most + sum(part.most for part in self.parts)

    @property
    def exact(self) -> bool:
        """Return True if that is no more than there are."""
        return self.named == self.newly + sum(part.newly for part in self.parts)

    @property
    def total(self) -> int:
        """How many ids there are, under old names too."""
        return self.population + sum(part.population for part in self.parts)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What cannot be counted, of old names too."""
        return tuple(dict.fromkeys(text for one in (self, *self.parts) for text in one.uncountable))

    @property
    def stops(self) -> bool:
        """Return True if an operator has to say yes to it first; never where no edit was to wait, before it and now."""
        everyone = (self, *self.parts)
        # Ids of many old names, each within its limit, are many all the same.
        together = sum(one.newly for one in everyone) > max(allows(one.limits, self.total) for one in everyone)
        return together or any(one.exceeds for one in everyone)

    @property
    def exceeds(self) -> bool:
        """Return True if its own ids alone need an approval."""
        return bool(self.limits) and (bool(self.uncountable) or self.newly > allows(self.limits, self.population))


def allows(limits: Iterable[Share], population: int) -> float:
    """Return how many out of a population the strictest of some limits allows; infinite: any number."""
    return min((limit.allows(population) for limit in limits), default=math.inf)


NOTHING = Edit()


@dataclass(frozen=True, slots=True)
class Range:
    """Ids of an index with a score above ``after`` and up to ``until``, in registry milliseconds.

    ``other``: only those count that have a score above ``beyond`` in that index too.
    """

    index: str
    after: float
    until: float
    other: str = ""
    beyond: float = -math.inf


def stored(rule: Rule) -> dict[str, Any]:
    """Return a rule as it is stored: all of it but where it holds and how often it runs."""
    return {name: value for name, value in asdict(rule).items() if name not in _NOT_STORED}


def text(at: int, rules: Sequence[Mapping[str, Any] | None]) -> str:
    """Return the stored text of rules that were enforced at a registry time; None stands for no rule."""
    return codec.dump({"at": at, "rules": list(rules)})


def read(said: str | None, base: Base | None) -> list[dict[str, Any] | None]:
    """Return the stored rules, none before a first enforced sweep.

    Where cut-offs of another sweep are stored, an earlier version of lapse enforced something since: of that no more is
    known.
    """
    found = json.loads(said) if said else {}
    if found and (base is None or found["at"] == base.at):
        rules: list[dict[str, Any] | None] = found["rules"]
        return rules
    return [] if base is None else [{"base": asdict(base)}]


def stored_in(said: bytes | None) -> list[dict[str, Any] | None]:
    """Return the rules of a stored text, whatever cut-offs stand beside it."""
    rules: list[dict[str, Any] | None] = json.loads(said)["rules"] if said else []
    return rules


def merged(one: Sequence[dict[str, Any] | None], other: Sequence[dict[str, Any] | None]) -> list[dict[str, Any] | None]:
    """Return the rules of ids that were put together; those without any stood under none."""
    both = [*(one or [None]), *(other or [None])]
    return [rule for i, rule in enumerate(both) if rule not in both[:i]]


def past(rules: Iterable[Mapping[str, Any] | None]) -> tuple[Past, ...]:
    """Return what is known of stored rules."""
    return tuple(map(_past, rules))


def _past(rule: Mapping[str, Any] | None) -> Past:
    if rule is None:
        return NEVER
    if "base" in rule:
        return Past(_reached(Base(**rule["base"])), DEFAULT, keep=None, touches_stated=True)
    orphan = rule["orphan"]
    return Past(
        _reach(rule["ttl"], rule["anchor"], rule["max_age"]),
        _share(rule["max_newly_due"]),
        tuple(Keep(**keep) for keep in rule["keep"]),
        rule["cascade"],
        rule["touches_stated"],
        orphan and Orphan(**{**orphan, "max_share": _share(orphan["max_share"])}),
        tuple(Keep(**keep) for keep in rule.get("listed_keep", rule["keep"])),
    )


def reach(rule: Rule) -> Reach:
    """Return from which ages on a rule makes ids due."""
    return _reach(rule.ttl, rule.anchor, rule.max_age)


def common(rules: Sequence[Past]) -> Reach:
    """Return a reach within which an id is due under each of these rules; nothing, if there are none.

    An id is at least as old as it is idle: what makes it due by its age does so by as much idleness.
    """
    if not rules:
        return NEVER.reach
    reaches = [rule.reach for rule in rules]
    return _plain(
        max(min(one.idle, one.aged) for one in reaches),
        max(one.aged for one in reaches),
        max(one.cap for one in reaches),
        expiries=all(one.expiries for one in reaches),
    )


def ranges(new: Reach, old: Reach, now: int) -> list[Range]:
    """Return where the ids stand that are due by one reach and not by another, each id in one of them."""
    found = [
        Range("fresh", now - min(old.idle, old.aged), now - min(new.idle, new.aged)),
        Range("active", now - old.idle, now - new.idle, "created", now - old.aged),
        Range("created", now - old.aged, now - new.aged, "active", now - min(old.idle, new.idle)),
        Range("capped", now - old.cap, now - new.cap, "explicit", now),
    ]
    if new.expiries and not old.expiries:
        found.append(Range("explicit", -math.inf, now))
    return [one for one in found if one.until > one.after]


def limits(rule: Rule, before: Sequence[Past]) -> tuple[Share, ...]:
    """Return the limits that hold for an edit: those that the ids stood under, and the file's."""
    return tuple(share for share in (rule.max_newly_due, *(one.limit for one in before)) if share)


def covered(named: int) -> int:
    """Return up to how many an approval covers of a plan that named so many."""
    return named + max(STALE, named // 10)


def uncountable(rule: Rule, before: Sequence[Past], *, own_expiry: int, kept: int) -> tuple[str, ...]:
    """Return what of an edit no count can tell: which ids a keep rule had kept, which parents lived by a cascade.

    ``own_expiry``: how many ids expire by themselves, ``kept``: how many a keep rule keeps now.
    """
    said = [text for one in before for text in _uncountable(rule, one, own_expiry=own_expiry, kept=kept)]
    return tuple(dict.fromkeys(said))


def _uncountable(rule: Rule, before: Past, *, own_expiry: int, kept: int) -> Iterable[str]:
    if before.keep is None and kept:
        yield f"{kept} ids are kept, by keep rules that an earlier version of lapse enforced and did not write down"
    # Of what is listed, the old rules are asked too.
    if rule.orphan is None or own_expiry:
        for keep in before.keep or ():
            if keep not in rule.keep:
                yield f"the keep rule {_said(keep)} is taken away"
    for kind, was, now in _cascades(rule.cascade, before.cascade):
        if _RANKS[now] > _RANKS[was]:
            yield f'cascade: {kind} was "{was}" and is "{now}"'
    if rule.touches_stated and not before.touches_stated:
        yield 'touches = "none" is added'
    if rule.orphan and rule.orphan.uses_stated and before.orphan and not before.orphan.uses_stated:
        yield 'uses = "none" is added'


def _cascades(new: Mapping[str, str], old: Mapping[str, str] | None) -> Iterable[tuple[str, str, str]]:
    for kind in sorted({*new, *old}) if old is not None else ():
        default = "delete" if kind == "conversation_item" else "leave"
        yield kind, (old or {}).get(kind, default), new.get(kind, default)


def _said(keep: Keep) -> str:
    parts = [f"{key} = {json.dumps(glob)}" for key, glob in keep.metadata.items()]
    named = [] if keep.name is None else [f"name = {json.dumps(keep.name)}"]
    return "{ " + ", ".join(named + [f"metadata.{part}" for part in parts]) + " }"


def _reach(ttl: float | None, anchor: str | None, max_age: float | None) -> Reach:
    idle, aged = (ttl, None) if anchor == "last_active_at" else (None, ttl)
    cap = _millis(max_age)
    return _plain(_millis(idle), min(_millis(aged), cap), cap, expiries=True)


def _reached(base: Base) -> Reach:
    ages = [math.inf if cut is None else base.at - cut for cut in (base.active, base.created, base.capped)]
    return _plain(*ages, expiries=True)


def _plain(idle: float, aged: float, cap: float, *, expiries: bool) -> Reach:
    return Reach(math.inf if idle >= aged else idle, aged, cap, expiries)


def _millis(seconds: float | None) -> float:
    return math.inf if seconds is None else round(seconds * 1000)


def _share(said: Mapping[str, Any] | None) -> Share | None:
    return None if said is None else Share(**said)
