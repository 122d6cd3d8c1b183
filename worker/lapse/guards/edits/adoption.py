"""Names of policies over time: an old name's ids move to the policy that adopts it; a removed policy is retired."""

from collections.abc import Collection, Sequence
from typing import Any

import structlog

from lapse.guards.context import named
from lapse.ledger.partition import RULES_LAST, Ledger
from lapse.policy import Rule, enforced
from lapse.registry import keys
from lapse.registry.model import Partition

log = structlog.get_logger("lapse")

TOGETHER = 100
_STORED = ("base_at", "base_active", "base_created", "base_capped", "enforced", "ramp_step")


async def rename(ledger: Ledger, rule: Rule, *, counted: bool = False) -> int:
    """Move what was registered under the rule's old names to it; return how many ids.

    ``counted``: an enforced sweep has counted what the move makes due. Else the ids keep the rules they stood under.
    """
    moved = 0
    for old in rule.formerly:
        there = await present(ledger, rule.partition, old)
        if there < 0:
            log.warning("policy.in_use", old=old, **named(rule.partition))
        if there > 0 and not counted:
            await _inherit(ledger, rule.partition, old)
        while there > 0 and (n := await _move(ledger, rule.partition, old, TOGETHER)) > 0:
            moved += n
    return moved


async def present(ledger: Ledger, partition: Partition, old: str) -> int:
    """Return how many ids stand under an old name of a policy; -1 if the name is another's by now."""
    return await _move(ledger, partition, old, 0)


async def stood_under(ledger: Ledger, partition: Partition, old: str) -> list[dict[str, Any] | None] | None:
    """Return the stored rules of an old name, none before the first enforced sweep.

    None: its ids were registered after the name was adopted, and stand under the policy's own rules.
    """
    there, here = await _rules(ledger, partition, old), await _rules(ledger, partition, partition.policy)
    return None if _told(there, here) else _read(there)


async def _move(ledger: Ledger, partition: Partition, old: str, limit: int) -> int:
    (n,) = await ledger.carrier.carry([ledger.on(partition, "guards/lua/rename", old, limit, parse=int)])
    return int(n)


async def _inherit(ledger: Ledger, partition: Partition, old: str) -> None:
    """Let the ids of an old name keep the rules they stood under, before the first of them is moved.

    What is due under the new policy's rules and not under theirs is newly due then, in whatever order and in however
    many steps the file was edited.
    """
    there, here = await _rules(ledger, partition, old), await _rules(ledger, partition, partition.policy)
    if _told(there, here):
        return
    at, known, theirs = here["base_at"], _read(here), _read(there)
    if not at and (fields := {name: there[name] for name in _STORED if there[name]}):
        await ledger.note(partition, **fields)
        at = there["base_at"]
        known = theirs if await _empty(ledger, partition) else []
    if at and (both := enforced.merged(known, theirs)) != known:
        await ledger.note(partition, enforced=enforced.text(int(at), both))


def _told(there: dict[str, str], here: dict[str, str]) -> bool:
    """Return True if what stands under an old name was registered under the new rules: they were enforced since."""
    enforced_since = here["base_at"] and here["since"] and int(here["since"]) <= int(here["base_at"])
    return bool(there["inherited"] or enforced_since)


async def _empty(ledger: Ledger, partition: Partition) -> bool:
    prefix = ledger.prefix(partition)
    indexes = (keys.FRESH, keys.ACTIVE, keys.EXPLICIT)
    return not any(await ledger.carrier.run([("EXISTS", prefix + index) for index in indexes]))


async def _rules(ledger: Ledger, partition: Partition, policy: str) -> dict[str, str]:
    names = (*_STORED, "since", "inherited")
    name = keys.partition(ledger.namespace, partition.provider, partition.kind, policy) + keys.RULES
    (values,) = await ledger.carrier.run([("HMGET", name, *names)])
    return {name: value.decode() if value else "" for name, value in zip(names, values, strict=True)}


def _read(rules: dict[str, str]) -> list[dict[str, Any] | None]:
    at, *cuts = (int(rules[name]) if rules[name] else None for name in _STORED[:4])
    return enforced.read(rules["enforced"], None if at is None else enforced.Base(at, *cuts))


async def retire(ledger: Ledger, rules: Sequence[Rule], slots: Collection[tuple[str, str]]) -> int:
    """End the policies that this worker swept and its file no longer has, and dropped old names; return how many.

    A worker with the older file is refused them from then on: no rules are a version of the rules too. An old name ends
    with the ``formerly`` of the rules in force, whichever worker swept with it.
    """
    known = {rule.partition for rule in rules}
    known |= {
        Partition(at.provider, at.kind, old) for rule in rules for at in (rule.partition,) for old in rule.formerly
    }
    retired = 0
    for provider, kind in sorted(slots):
        mine = [rule.digest for rule in rules if (rule.partition.provider, rule.partition.kind) == (provider, kind)]
        name = keys.slot(ledger.namespace, provider, kind) + keys.POLICIES
        (policies,) = await ledger.carrier.run([("SMEMBERS", name)])
        there = {Partition(provider, kind, policy) for policy in keys.policies_named(policies)}
        for partition in sorted(there - known):
            remembered = round(RULES_LAST * 1000)
            call = ledger.on(partition, "guards/lua/retire", ledger.host, remembered, *mine, parse=int)
            (ended,) = await ledger.carrier.carry([call])
            if ended:
                log.warning("policy.retired", **named(partition))
            retired += ended
    return retired
