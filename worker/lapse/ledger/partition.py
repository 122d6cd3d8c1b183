"""What a partition holds and under which rules: adopted, surveyed and noted by the worker that sweeps it."""

import json
from dataclasses import dataclass

from lapse.ledger.claim import Claims
from lapse.ledger.due import terms
from lapse.ledger.settle import Settlements
from lapse.policy import Rule
from lapse.policy.enforced import NOTHING, Base, Edit
from lapse.registry import codec, keys
from lapse.registry.model import Partition
from lapse.registry.scripts import text

RULES_LAST = 7 * 86400.0  # seconds; which rules a worker swept with before


@dataclass(frozen=True, slots=True)
class Survey:
    """What a partition holds before a sweep acts; times in registry milliseconds.

    ``place`` is that of the account whose ids these are, None before a first enforced sweep. ``enforced`` and ``base``
    are the rules and cut-offs of the last one, ``since`` is when the rules of now were adopted, ``fence`` the last
    token. ``edit``: what edits since make due at once, where that was counted.
    """

    now: int
    bar: str | None
    halts: tuple[str, ...]
    registered: int
    due: int
    oldest: int | None
    touched: bool
    edges: bool
    active: int | None
    created: int | None
    capped: int | None = None
    place: str | None = None
    fence: int = 0
    own_expiry: int = 0
    kept: int = 0
    since: int = 0
    enforced: str | None = None
    base: Base | None = None
    edit: Edit = NOTHING


class Ledger(Claims, Settlements):
    """The worker's view of the registry: what it claims, settles and knows of each partition."""

    async def adopt(self, rule: Rule, epoch: str = "") -> str:
        """Make a rule the one its partition is swept with: adopted, current, or divergence (it was superseded).

        Claims that expect another ``epoch`` of the registry are refused from then on.
        """
        published = terms(rule) | {"mode": "enforce" if rule.enforce else "observe"}
        if rule.along is not None:
            published["along"] = rule.along
        call = self.on(
            rule.partition,
            "ledger/lua/adopt",
            rule.digest,
            self.host,
            codec.dump(published),
            codec.dump(rule.formerly),
            epoch,
            round((RULES_LAST + 2 * rule.every) * 1000),
            parse=text,
        )
        return str((await self.carrier.carry([call]))[0])

    async def survey(self, rule: Rule) -> Survey:
        """Count a partition as its rule stands. Changes nothing."""
        seen = json.loads(
            (await self.carrier.carry([self.on(rule.partition, "ledger/lua/survey", rule.digest, parse=text)]))[0]
        )
        seen["halts"] = tuple(seen["halts"])
        base = seen.pop("base", None)
        absent = dict.fromkeys(("bar", "oldest", "active", "created"))
        return Survey(**{**absent, **seen, "base": base and Base(**base)})

    async def note(self, partition: Partition, **fields: str | int) -> None:
        """Write fields of a partition's rules hash: baseline, success, would."""
        flat = [part for pair in fields.items() for part in pair]
        await self.carrier.write(("HSET", self.prefix(partition) + keys.RULES, *flat))

    async def settle_at(self, partition: Partition, place: str) -> None:
        """Write down the account that the ids of a slot belong to, unless one is written down."""
        key = keys.slot(self.namespace, partition.provider, partition.kind) + keys.MARKS
        await self.carrier.write(("HSETNX", key, "place", place))

    async def mark(self, provider: str, kind: str, field: str, value: int | None = None) -> int | None:
        """Read a once-only fact of a slot, or write it first."""
        key = keys.slot(self.namespace, provider, kind) + keys.MARKS
        if value is not None:
            await self.carrier.write(("HSET", key, field, value))
            return value
        stored = (await self.carrier.run([("HGET", key, field)]))[0]
        return None if stored is None else int(stored)
