"""Parents that a child stands in the way of: which child, and an end to their wait as soon as it does not any more.

What the registry knows costs no request. So every sweep asks it first, and a parent waits no longer than its child.
"""

import json
from collections.abc import Mapping
from typing import Any

from lapse.ledger.children import NOT_NOW, STAYS, ChildState, Question, standings
from lapse.ledger.partition import Ledger
from lapse.policy import Rule
from lapse.registry import codec, keys
from lapse.registry.model import Resource
from lapse.sweep.deletion.cascade import Cascade
from lapse.sweep.deletion.descendants import Relative

MOST = 20_000  # looked at by one sweep
SCAN = 1000


async def block(ledger: Ledger, policy: str, parent: Resource, child: Relative, active: int | None) -> None:
    """Write down what stands in the way of a claimed parent."""
    said = {
        "p": policy,
        "c": codec.edge_text(child.resource),
        "g": [codec.edge_text(one) for one in child.going],
        "m": "protect" if child.protects else "users" if child.child.users else "named",
        "a": active,
    }
    await ledger.carrier.write(("HSET", _key(ledger, parent), parent.id, codec.dump(said)))


async def free(cascade: Cascade, rule: Rule) -> int:
    """Make parents due again whose child is not in the way any more; return how many."""
    at, ledger, freed = rule.partition, cascade.context.ledger, 0
    key, cursor, looked = _key(ledger, Resource(at.provider, at.kind, "")), "0", 0
    while looked < MOST:
        ((next_, flat),) = await ledger.carrier.run([("HSCAN", key, cursor, "COUNT", SCAN)])
        said = {id_.decode(): json.loads(text) for id_, text in zip(flat[::2], flat[1::2], strict=True)}
        mine = {id_: one for id_, one in said.items() if one["p"] in {at.policy, *rule.formerly}}
        if over := await _over(cascade, at.provider, mine):
            call = ledger.on_slot("sweep/lua/unblock", at.provider, at.kind, *over)
            freed += int((await ledger.carrier.carry([call]))[0])
        looked, cursor = looked + len(said), next_.decode()
        if cursor == "0":
            break
    return freed


async def _over(cascade: Cascade, provider: str, said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the parents of which no child is in the way."""
    kinds: dict[str, list[tuple[str, Mapping[str, Any], Question]]] = {}
    for id_, one in said.items():
        child, going = codec.edge(one["c"]), tuple(codec.edge(source) for source in one["g"])
        asked = Question([child.id], going, one["m"] == "named", one["a"])
        kinds.setdefault(child.kind, []).append((id_, one, asked))
    over: list[str] = []
    for kind, waiting in kinds.items():
        rules, expected = await cascade.told(kind), cascade.context.watch.expected()
        groups = [one for _id, _said, one in waiting]
        found = await standings(cascade.context.ledger, (provider, kind), groups, rules, expected)
        over += [id_ for (id_, one, _asked), seen in zip(waiting, found, strict=True) if not _stands(one["m"], seen)]
    return over


def _stands(manner: str, standing: ChildState) -> bool:
    if manner == "protect":
        return standing.status != "gone"
    return standing.status in NOT_NOW or (manner == "users" and standing.status in STAYS)


def _key(ledger: Ledger, parent: Resource) -> str:
    return keys.slot(ledger.namespace, parent.provider, parent.kind) + keys.BLOCKED
