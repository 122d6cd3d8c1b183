"""How many replicas have to have what must not be lost, and whether so many are there."""

from collections.abc import Mapping

from lapse.errors import LapseError
from lapse.guards.integrity.preflight import ANSWERING, REPLICAS, SILENT, Finding, Level
from lapse.policy.tables import AUTO
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.pools.replicas import Replicas

WITHIN = 1.0
"""Seconds for which a worker waits until they have it."""
IN_FORCE, FIRST_SEEN = "replicas", "replicas_seen"
"""Fields of what workers publish: how many, and with ``"auto"`` how many there were when they first looked."""


async def settle(carrier: Carrier, namespace: str, said: int | str, info: Mapping[str, str]) -> Finding:
    """Have a worker's connections wait for as many as ``decide`` says, and judge whether they are there."""
    number = await decide(carrier, namespace, said, info)
    carrier.replicas = Replicas(number, WITHIN)
    return judge(number, said, info, await in_step(carrier, number) if number else None)


async def decide(carrier: Carrier, namespace: str, said: int | str, info: Mapping[str, str]) -> int:
    """Return how many replicas have to have a claim, and publish it: the same to a hold that an application says.

    Args:
        carrier: To the registry.
        namespace: Of the registry.
        said: ``[registry] replicas``.
        info: INFO of the server; empty if it could not be read.

    Raises:
        RegistryError: it could not be read, or written.

    """
    name = keys.published(namespace)
    (before, seen), waited = await carrier.run([("HMGET", name, IN_FORCE, FIRST_SEEN), ("WAIT", 0, 1)])
    if said != AUTO:
        number = int(said)
    elif seen is not None:
        number = int(seen)
    else:
        number = int(connected(info) > 0 and isinstance(waited, int))
        if REPLICAS in info:
            await carrier.write(("HSET", name, FIRST_SEEN, number))
    if before != b"%d" % number:
        await carrier.write(("HSET", name, IN_FORCE, number))
    return number


async def published(carrier: Carrier, namespace: str) -> Replicas:
    """Return how many replicas workers say have to have what is said."""
    (number,) = await carrier.run([("HGET", keys.published(namespace), IN_FORCE)])
    return Replicas(int(number or 0), WITHIN)


def connected(info: Mapping[str, str]) -> int:
    """Return how many replicas the server has now."""
    return int(info.get(REPLICAS, "0"))


async def in_step(carrier: Carrier, number: int) -> int | None:
    """Return how many replicas have all that was written so far within the time that a worker waits for them.

    Args:
        carrier: To the registry.
        number: How many are waited for.

    Returns:
        Of a cluster the fewest of a node; None where a server does not say.

    Raises:
        RegistryError: it could not be asked.

    """
    said = await carrier.everywhere(("PING",), ("WAIT", number, round(WITHIN * 1000)))
    had = [replies[1] for replies in said.values() if not isinstance(replies, LapseError)]
    return min(had, default=None) if all(isinstance(one, int) for one in had) else None


def judge(number: int, said: int | str, info: Mapping[str, str], had: int | None = None) -> Finding:
    """Say whether what must not be lost outlives the server, and whether anything may be deleted.

    Args:
        number: How many replicas have to have it.
        said: ``[registry] replicas``.
        info: INFO of the server.
        had: What ``in_step`` returned, if it was asked.

    """
    if number and REPLICAS not in info:
        detail = (
            f"replicas = {said}: the server does not say how many are connected, and is asked at each hold and claim"
        )
        return Finding("replication", Level.UNKNOWN, detail, "let lapse's user run INFO")
    there = connected(info)
    detail = f"replicas = {said}: {number} have to have a hold before it is told, {there} are connected"
    answering = int(info.get(ANSWERING, there))
    if answering < there:
        detail += f", and {there - answering} of them silent for {SILENT} s"
    if had is not None and had < number <= answering:
        detail += f", and {had} of them had all of it within {WITHIN:g} s"
        fix = "see what makes the replicas slow, or say [registry] replicas = 0: then a failover may lose holds"
        return Finding("replication", Level.FATAL, f"{detail}; nothing is deleted while it is so", fix)
    if answering < number:
        fix = "bring the replicas back, or say [registry] replicas = 0: then a failover may lose holds"
        return Finding("replication", Level.FATAL, f"{detail}; nothing is deleted until there are as many", fix)
    if there > number == 0 and said == AUTO:
        fix = "say [registry] replicas = 1: there was none when workers first looked"
        return Finding("replication", Level.WARNING, f"{detail}; a failover may lose holds and deletions", fix)
    return Finding("replication", Level.OK, detail)
