"""What the registry knows that may prove or belie an absence: ids from before a time, and what was not found before."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Partition

STEP = 600_000
"""Milliseconds: in such steps of the clock a creation is packed."""
_HALVED = 2**41  # doubles from here on have half as many values to a millisecond
NEWEST = 5
SPREAD = 6
LATELY = 50
"""Of ids touched last whose creation is packed, among how many the newest are looked for."""

_BY_CREATION = (keys.FRESH, keys.CREATED, keys.CAPPED)
_BY_PLACE = (keys.PARKED, keys.KEPT)
"""What nothing makes due: held, referenced or kept, and so most likely there."""


@dataclass(frozen=True, slots=True)
class History:
    """Under which identities an id was not found before; ``believed``: the one under which an operator expects that."""

    missed: tuple[str, ...] = ()
    believed: str | None = None


async def histories(carrier: Carrier, namespace: str, partition: Partition, ids: Sequence[str]) -> dict[str, History]:
    """Return what is on record of earlier attempts of claimed ids; those that are claimed no more are left out."""
    key = keys.slot(namespace, partition.provider, partition.kind) + keys.ASIDE
    (stored,) = await carrier.run([("HMGET", key, *ids)])
    records = {id_: json.loads(text) for id_, text in zip(ids, stored, strict=True) if text}
    return {id_: History(tuple(one.get("v", ())), one.get("b")) for id_, one in records.items()}


async def spread_before(carrier: Carrier, namespace: str, partition: Partition, before: int) -> list[str]:
    """Return ids at even distances between the oldest and the newest that were tracked before a time.

    They stand for all of them, however many were registered lately.
    """
    names = await _indexes(carrier, keys.slot(namespace, partition.provider, partition.kind))
    return await _spread(carrier, names, before) if names else []


async def known_before(carrier: Carrier, namespace: str, partition: Partition, before: int) -> list[str]:
    """Return ids of a (provider, kind), of whatever policy, that were tracked before a time in registry milliseconds.

    The newest come first, since they are the last that anybody would have deleted; those behind them stand for the
    whole registry. What is leased, backed off or in quarantine is left out: whether that exists is an open question.
    """
    names = await _indexes(carrier, keys.slot(namespace, partition.provider, partition.kind))
    if not names:
        return []
    commands: list[tuple[str | float, ...]] = []
    for name in names:
        commands.append(("ZRANGE", name, f"({before}", "-inf", "BYSCORE", "REV", "LIMIT", 0, NEWEST, "WITHSCORES"))
        if _is_packed(name):
            commands.append(("ZRANGE", name, 0, LATELY - 1, "REV", "WITHSCORES"))
    newest = await _tracked(carrier, commands, before)
    first = [id_ for _created, id_ in sorted(newest, reverse=True)[:NEWEST]]
    return list(dict.fromkeys([*first, *await _spread(carrier, names, before)]))


async def _indexes(carrier: Carrier, slot: str) -> list[str]:
    (policies,) = await carrier.run([("SMEMBERS", slot + keys.POLICIES)])
    names = keys.policies_named(policies)
    found = [f"{slot}{name}:{index}" for name in names for index in (*_BY_CREATION, *_BY_PLACE)]
    return [*found, *(f"{slot}{name}:{keys.ACTIVE}" for name in names)]


def _is_packed(name: str) -> bool:
    """Return True of the index in which creations may be packed: it is in the order of the last activity."""
    return name.endswith(f":{keys.ACTIVE}")


async def _spread(carrier: Carrier, names: Sequence[str], before: int) -> list[str]:
    """Return ids at even distances of the index that holds the most, the oldest one of each other included."""
    sizes = await carrier.run(
        [("ZCOUNT", name, "-inf", "+inf" if _is_packed(name) else f"({before}") for name in names]
    )
    commands: list[tuple[str | float, ...]] = []
    for name, size in zip(names, sizes, strict=True):
        steps = SPREAD if size == max(sizes) else 1
        ranks = sorted({size * step // steps for step in range(steps)}) if size else []
        commands += [("ZRANGE", name, rank, rank, "WITHSCORES") for rank in ranks]
    found = await _tracked(carrier, commands, before) if commands else []
    return [id_ for _created, id_ in sorted(found)]


async def _tracked(
    carrier: Carrier, commands: Sequence[tuple[str | float, ...]], before: int
) -> list[tuple[float, str]]:
    """Return the ids that commands find with their scores and that were tracked before a time, each with since when."""
    found = list[tuple[float, str]]()
    for command, flat in zip(commands, await carrier.run(list(commands)), strict=True):
        for id_, score in zip(flat[::2], flat[1::2], strict=True):
            since = _since(str(command[1]), float(score))
            if since is not None and since < before:
                found.append((since, id_.decode()))
    return found


def creation_in(score: float) -> float | None:
    """Return the creation that a score of the index ``active`` says, in milliseconds; None if it stands beside it.

    As ``include/packed.lua`` writes it.
    """
    rest = score % 1000
    if rest.is_integer():
        return None
    second = score - rest
    age = (rest * (4096 if second < _HALVED - 1000 else 2048) - 1) / 2
    return min((-(-second // STEP) - age) * STEP, second)


def _since(name: str, score: float) -> float | None:
    """Return since when an id is tracked by its score in an index; None if another index says it."""
    return creation_in(score) if _is_packed(name) else score


async def tracked_before(carrier: Carrier, namespace: str, partition: Partition, id_: str, before: int) -> bool:
    """Return True if one id is tracked in a due index, and was before a time in registry milliseconds."""
    slot = keys.slot(namespace, partition.provider, partition.kind)
    (policies,) = await carrier.run([("SMEMBERS", slot + keys.POLICIES)])
    known = keys.policies_named(policies)
    names = [f"{slot}{policy}:{index}" for policy in known for index in (*_BY_CREATION, keys.ACTIVE)]
    scores = await carrier.run([("ZSCORE", name, id_) for name in names]) if names else []
    said = [_since(name, float(score)) for name, score in zip(names, scores, strict=True) if score is not None]
    return any(since is not None and since < before for since in said)
