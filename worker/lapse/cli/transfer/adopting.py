"""Looks at what a provider lists and nobody registered, and tracks it under a policy."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lapse.cli.context import RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.progress import Advance
from lapse.cli.transfer.backfill import TOGETHER, Backfilled, Mode, Standing, backfill
from lapse.guards.context import SweepContext
from lapse.guards.edits import newly_due
from lapse.guards.enforcement import Stand
from lapse.ledger.due import due_of
from lapse.ledger.nonces import Copies, Nonces
from lapse.ledger.reasons import HaltReason
from lapse.policy import Rule, enforced
from lapse.providers.pagination import Listed
from lapse.sweep.deletion.ownership import OURS, Stamp, stamp
from lapse.sweep.purge import Incomplete

T = TypeVar("T")

FOREIGN = {"other_namespace", "old_epoch"}
"""What stamps say that are another registry's, or this one's before it was begun anew."""


@dataclass(slots=True)
class Unregistered:
    """What was found.

    Attributes:
        now: When the list was asked for, in registry milliseconds.
        identity: Whose list it is, as ``Provider.identity``.
        chosen: What would be tracked.
        names: Their names, where the list tells names.
        unstamped: Which of them carry no stamp: nothing but the operator says whose they are.
        left: Why others are left out -> how many.

    """

    now: int
    identity: str = ""
    chosen: list[Backfilled] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    unstamped: set[str] = field(default_factory=set)
    left: Counter[str] = field(default_factory=Counter)


async def look(context: SweepContext, rule: Rule, *, unstamped: bool) -> Unregistered:
    """Return what is listed and unregistered; nothing is changed.

    Raises:
        Incomplete: the list ended before its end.

    """
    at, found = rule.partition, Unregistered(await context.control.now(), await context.provider.identity())

    also = await context.control.also_ours()
    nonces = Nonces(context.ledger.carrier, context.ledger.namespace)
    copies = Copies(nonces, at.provider, at.kind, set())

    async def take(page: Sequence[Listed]) -> None:
        said = {item.id: stamp(item, context.ledger.namespace, context.watch.epoch, also) for item in page}
        await copies.page((item, said[item.id].nonce) for item in page if said[item.id].says == OURS)
        for some in _chunks(page):
            await _sort(context, rule, some, said, found)

    kind = context.provider.kinds[at.kind]
    listing = await context.provider.listing(kind, context.throttle.spend, take=take)
    if not listing.complete:
        raise Incomplete(f"the list of {kind.plural} is not complete: {listing.reason}")
    found.left["unaddressable"] += len(listing.strange)
    await copies.end()
    left = [
        ("foreign", copies.ids),  # the oldest that carries a stamp is the one that it was given to
        ("unstamped", set() if unstamped else found.unstamped),
    ]
    for why, ids in left:
        found.left[why] += sum(one.id in ids for one in found.chosen)
        found.chosen = [one for one in found.chosen if one.id not in ids]
    return found


async def _sort(
    context: SweepContext, rule: Rule, items: Sequence[Listed], said: Mapping[str, Stamp], found: Unregistered
) -> None:
    asked = [Backfilled(item.id, *_times(item, found.now)) for item in items]
    standings = (await backfill(context.ledger, {rule.partition: asked}, Mode.LOOK))[rule.partition]
    for item, one, standing in zip(items, asked, standings, strict=True):
        if why := _spared(item, Standing(standing), said[item.id], rule):
            found.left[why] += 1
            continue
        found.chosen.append(one)
        if said[item.id].says != OURS:
            found.unstamped.add(item.id)
        if item.name:
            found.names[item.id] = item.name


def _spared(item: Listed, standing: Standing, said: Stamp, rule: Rule) -> str | None:
    """Return why an object is left out whatever the operator says, or None."""
    if standing != Standing.NEW:
        return standing.name.lower()
    if said.says in FOREIGN:
        return "foreign"
    if said.says == OURS and said.policy not in {rule.partition.policy, *rule.formerly}:
        return "other_policy"
    return "undated" if item.created_at is None else None


def _times(item: Listed, now: int) -> tuple[int, int]:
    """Return creation and last activity in milliseconds, as the list tells them: the clocks may differ a little."""
    created = min(now, round((item.created_at or 0) * 1000))
    return created, max(created, min(now, round((item.last_active_at or 0) * 1000)))


def due_now(found: Unregistered, rule: Rule) -> int:
    """Return how many of what would be tracked are due at once."""
    dues = (due_of({"c": one.created, "a": one.active}, rule)[0] for one in found.chosen)
    return sum(due is not None and due <= found.now for due in dues)


async def adopt(access: RegistryAccess, rule: Rule, found: Unregistered, advance: Advance) -> tuple[Counter[str], str]:
    """Track what was found; return how many were of each ``Standing`` by then, and the plan of a halt, or "".

    If more would be due at once than ``max_newly_due`` allows, the policy is halted before the first of them is there.

    Raises:
        Refused: it is halted for what is newly due already.
        RegistryUnavailable: the registry was lost; the same command again does what is left.

    """
    at = rule.partition
    if HaltReason.CUTOFF_JUMPED in (await access.ledger.survey(rule)).halts:
        raise Refused(Code.HALTED, f"{at} is halted for what is newly due already: lapse status says how to answer it")
    await backfill(access.ledger, {at: ()}, Mode.ADOPT)  # from here on, what is due counts as newly due
    plan = await _halted(access, rule, found)
    standings = Counter[str]()
    for number, some in enumerate(_chunks(found.chosen), 1):
        standings.update((await backfill(access.ledger, {at: some}, Mode.ADOPT))[at])
        advance(number * TOGETHER)
    return standings, plan


async def _halted(access: RegistryAccess, rule: Rule, found: Unregistered) -> str:
    survey = await newly_due.look(access.ledger, rule, await access.ledger.survey(rule))
    due = due_now(found, rule)
    named, total = survey.edit.named + due, survey.edit.total + len(found.chosen)
    if not due or not rule.enforce or named <= enforced.allows(survey.edit.limits, total):
        return ""
    detail = f"{named} of {total} ids would become due at once: {due} of them are adopted"
    stand = Stand("halted", HaltReason.CUTOFF_JUMPED, detail, plan=True, named=named)
    plan = await newly_due.plan(access.ledger, rule, stand, replace(survey, due=survey.due + due))
    await access.control.halt(rule.partition, HaltReason.CUTOFF_JUMPED, detail, plan=plan)
    return plan


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER))
