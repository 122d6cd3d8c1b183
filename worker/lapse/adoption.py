"""Names of policies over time: an old name's ids move to the policy that adopts it; a removed policy is retired."""

from collections.abc import Collection, Sequence
from typing import Any

import structlog

from lapse import enforced, keys
from lapse.ledger import RULES_LAST, Ledger
from lapse.means import named
from lapse.model import Partition
from lapse.policy import Rule

log = structlog.get_logger("lapse")

TOGETHER = 500
_STORED = ("base_at", "base_active", "base_created", "base_capped", "enforced", "ramp_step")


async def rename(ledger: Ledger, rule: Rule) -> int:
    """Move what was registered under the rule's old names to it; return how many ids."""
    moved = 0
    for old in rule.formerly:
        there = await _move(ledger, rule.partition, old, 0)
        if there < 0:
            log.warning("policy.in_use", old=old, **named(rule.partition))
        elif there:
            await _inherit(ledger, rule.partition, old)
            while n := await _move(ledger, rule.partition, old, TOGETHER):
                if n < 0:
                    break
                moved += n
    return moved


async def _move(ledger: Ledger, partition: Partition, old: str, limit: int) -> int:
    (n,) = await ledger.carrier.carry([ledger.on(partition, "rename", old, limit, parse=int)])
    return int(n)


async def _inherit(ledger: Ledger, partition: Partition, old: str) -> None:
    """Let the ids of an old name keep the rules they stood under, before the first of them is moved.

    What is due under the new policy's rules and not under theirs is newly due then, in whatever order and in however
    many steps the file was edited.
    """
    there, here = await _rules(ledger, partition, old), await _rules(ledger, partition, partition.policy)
    at, since = here["base_at"], here["since"]
    if there["inherited"] or (at and since and int(since) <= int(at)):
        return  # what is registered under the old name since then was told these rules
    if not at:
        if fields := {name: there[name] for name in _STORED if there[name]}:
            await ledger.note(partition, **fields)
        return
    known = _read(here)
    if (both := enforced.merged(known, _read(there))) != known:
        await ledger.note(partition, enforced=enforced.text(int(at), both))


async def _rules(ledger: Ledger, partition: Partition, policy: str) -> dict[str, str]:
    names = (*_STORED, "since", "inherited")
    name = keys.partition(ledger.namespace, partition.provider, partition.kind, policy) + keys.RULES
    (values,) = await ledger.carrier.run([("HMGET", name, *names)])
    return {name: value.decode() if value else "" for name, value in zip(names, values, strict=True)}


def _read(rules: dict[str, str]) -> list[dict[str, Any] | None]:
    at, *cuts = (int(rules[name]) if rules[name] else None for name in _STORED[:4])
    return enforced.read(rules["enforced"], None if at is None else enforced.Base(at, *cuts))


async def retire(ledger: Ledger, rules: Sequence[Rule], slots: Collection[tuple[str, str]]) -> int:
    """End the policies that this worker swept and its file no longer has; return how many.

    A worker with the older file is refused them from then on: no rules are a version of the rules too.
    """
    known = {rule.partition for rule in rules}
    known |= {
        Partition(at.provider, at.kind, old) for rule in rules for at in (rule.partition,) for old in rule.formerly
    }
    retired = 0
    for provider, kind in sorted(slots):
        name = keys.slot(ledger.namespace, provider, kind) + keys.POLICIES
        (policies,) = await ledger.carrier.run([("SMEMBERS", name)])
        there = {Partition(provider, kind, policy.decode()) for policy in policies}
        for partition in sorted(there - known):
            call = ledger.on(partition, "retire", ledger.host, round(RULES_LAST * 1000), parse=int)
            (ended,) = await ledger.carrier.carry([call])
            if ended:
                log.warning("policy.retired", **named(partition))
            retired += ended
    return retired
