"""The names that a policy has and had: a switch or a halt under one of them counts for all."""

from collections.abc import Mapping

from lapse.registry import keys
from lapse.registry.aio import Carrier


async def names_known(carrier: Carrier, namespace: str, slot: tuple[str, str], *besides: str) -> dict[str, str]:
    """Return the policy names that a (provider, kind) knows, each with the policy that took it over, or "".

    ``besides``: names that are looked for too, where nothing stands under them any more.
    """
    prefix = keys.slot(namespace, *slot)
    stored, halts = await carrier.run([("SMEMBERS", prefix + keys.POLICIES), ("HKEYS", prefix + keys.HALTS)])
    known = set(keys.policies_named(stored))
    halted = {field.decode().partition("|")[0] for field in halts} - {"*"}
    names = sorted(known | halted | set(besides))
    rules = [keys.partition(namespace, *slot, name) + keys.RULES for name in names]
    said = await carrier.run([("HMGET", key, "renamed", "since", "superseded") for key in rules])
    return {
        name: (fields[0] or b"").decode()
        for name, fields in zip(names, said, strict=True)
        if name in known or any(fields)
    }


def lineage(policy: str, taken: Mapping[str, str]) -> list[str]:
    """Return a policy's name and those that it had later, the one that it has now last. ``taken``: old name -> new."""
    line = [policy]
    while (later := taken.get(line[-1])) and later not in line:
        line.append(later)
    return line
