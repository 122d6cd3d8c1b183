"""The fourth story: everything of a kind, because an operator said so; by the same claim, delete and settle."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from lapse.errors import LapseError
from lapse.guards.context import SweepContext
from lapse.ledger.nonces import Nonces
from lapse.ledger.records import registered
from lapse.ledger.settle import Act, Settled
from lapse.policy import Keep, Rule
from lapse.providers.pagination import Listed
from lapse.registry import codec, keys
from lapse.registry.model import PURGED, Partition, Resource
from lapse.registry.scripts import Call, script
from lapse.sweep.batches import claim_purged
from lapse.sweep.deletion.ownership import COPIED, OURS, Stamp, stamp
from lapse.sweep.executor import Executor
from lapse.sweep.opening import Warrant, opened, unruled
from lapse.sweep.report import Report
from lapse.sweep.session import Session

BUDGET = 86400.0  # seconds; somebody sits before it, or has given it the time
CHUNK = 100


class Incomplete(LapseError):
    """The list could not be read to its end; nothing can be said of everything."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One object: its name where lists tell names, whether it is not provably ours, why it is held, if it is kept.

    ``strange``: it is listed under an id that no request can name.
    """

    id: str
    name: str = ""
    foreign: bool = False
    held: str | None = None
    kept: bool = False
    strange: bool = False

    @property
    def known(self) -> bool:
        """True if this registry knows something of it: a registration, its own stamp, a hold."""
        return not (self.foreign or self.strange) or self.held is not None


def rule_of(partition: Partition, keep: tuple[Keep, ...], rules: Sequence[Rule]) -> Rule:
    """Return what a purge goes by: the keep rules, and of the kind's policies what is theirs to say of each object."""
    return unruled(replace(partition, policy=PURGED), rules, keep, {})


async def inventory(context: SweepContext, rule: Rule) -> list[Thing]:
    """Return everything of the kind: as the provider lists it, or else as the registry knows it.

    From then on the registry says under which epoch it was asked: one that is emptied later knows of no hold.

    Raises:
        Incomplete: the list ended before its end.

    """
    at, kind, things = rule.partition, context.provider.kinds[rule.partition.kind], list[Thing]()
    slot = keys.slot(context.ledger.namespace, at.provider, at.kind)
    # Before the list: if the registry is emptied between this and the claims, the mark is gone, and they are refused.
    await context.ledger.carrier.write(("HSET", slot + keys.MARKS, "purge", context.watch.epoch))

    async def take(page: Sequence[Listed]) -> None:
        rest = iter(page)
        while chunk := list(islice(rest, CHUNK)):
            things.extend(await _described(context, rule, chunk))

    if kind.listable:
        listing = await context.provider.listing(kind, context.throttle.spend, take=take)
        if not listing.complete:
            raise Incomplete(f"the list of {kind.plural} is not complete: {listing.reason}")
        things += [Thing(id_, foreign=True, strange=True) for id_ in listing.strange]
    else:
        ids = {id_ async for id_ in registered(context.ledger.carrier, context.ledger.namespace, at.provider, at.kind)}
        await take([Listed(id_, None, None, {}) for id_ in sorted(ids)])
    return things


async def purge(
    context: SweepContext, rule: Rule, doomed: Sequence[str], actor: str, advance: Callable[[int], None]
) -> tuple[Report, set[str], dict[str, str]]:
    """Delete these ids; return what was settled as gone, and of the others why they were left.

    Raises:
        RegistryUnavailable: Redis was lost; leases run out by themselves.

    """
    wanted, gone, left = dict.fromkeys(doomed, 0), set[str](), dict[str, str]()

    def settled(batch: Sequence[Settled]) -> None:
        for one in batch:
            if one.act == Act.DONE:
                gone.add(one.id)
            elif one.act == Act.RELEASE:
                wanted[one.id] = 0  # for reasons that are not its own: it is begun again while the run goes on
            else:
                left[one.id] = f"{one.outcome}: {one.detail}" if one.detail else str(one.outcome)
        advance(len(gone))

    context = replace(context, settings=replace(context.settings, budget=BUDGET))
    session = Session(context, rule, None, on_settled=settled)
    if await opened(session, Warrant.PURGE):
        async with session.executor(delete=session.delete, settle=session.settle) as executor:
            while await _claimed(session, executor, wanted, left, actor):
                await executor.drain(session.budget.left())
    return await session.closed(), gone, {**dict.fromkeys(wanted, "not begun"), **left}


async def _claimed(
    session: Session, executor: Executor, wanted: dict[str, int], left: dict[str, str], actor: str
) -> bool:
    """Hand out all that is wanted; False when that is over, or nothing came back."""
    began = bool(wanted)
    while wanted:
        claims = await claim_purged(session, executor, wanted, actor)
        if claims is None:
            return False
        left |= claims.left
        executor.submit(claims.claims)
    return began


async def _stamps(context: SweepContext, at: Partition, said: Sequence[tuple[str, Stamp]]) -> dict[str, str]:
    """Return what the stamps say of each id; one whose nonce is another object's was copied with its metadata."""
    nonces = Nonces(context.ledger.carrier, context.ledger.namespace)
    owners = await nonces.owners([one.nonce for _id, one in said if one.says == OURS])
    mine = {id_: codec.edge_text(Resource(at.provider, at.kind, id_)) for id_, _one in said}
    copied = {id_ for id_, one in said if one.says == OURS and owners.get(one.nonce, mine[id_]) != mine[id_]}
    return {id_: COPIED if id_ in copied else one.says for id_, one in said}


async def _described(context: SweepContext, rule: Rule, items: Sequence[Listed]) -> list[Thing]:
    ledger, at, epoch = context.ledger, rule.partition, context.watch.epoch
    also = await context.control.also_ours()
    stamps = await _stamps(context, at, [(item.id, stamp(item, ledger.namespace, epoch, also)) for item in items])
    slot = keys.slot(ledger.namespace, at.provider, at.kind)
    call = Call(script("sweep/lua/describe"), slot, (at.provider, at.kind, codec.dump(stamps)), json.loads)
    said = (await ledger.carrier.carry([call]))[0]
    foreign, held = set(said["foreign"]), said["held"] or {}
    return [
        Thing(
            item.id,
            item.name or "",
            item.id in foreign,
            held.get(item.id),
            any(keep.matches(item.name, item.metadata) for keep in rule.keep),
        )
        for item in items
    ]
