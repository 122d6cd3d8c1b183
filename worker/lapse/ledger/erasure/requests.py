"""Requests to erase subjects: written down once, told to every slot, and taken up where applications ask."""

import json
from collections.abc import Sequence
from typing import Any

import structlog

from lapse.errors import InvalidResource
from lapse.ledger.connection import LedgerConnection, apart
from lapse.ledger.erasure.request import ErasureRequest, State
from lapse.ledger.halts import Halts
from lapse.policy.tables import ErasureSection
from lapse.registry import codec, keys
from lapse.registry.facts import request_id
from lapse.registry.model import Partition, SubjectAnswer
from lapse.registry.scripts import Call, script, text
from lapse.registry.subjects import ERASURE, Subjects, name_of

log = structlog.get_logger("lapse")


async def find(ledger: LedgerConnection, id_: str) -> ErasureRequest | None:
    """Return a request, or None if there is none of this id."""
    (stored,) = await ledger.carrier.run([("HGET", keys.erasures(ledger.namespace), id_)])
    return ErasureRequest.read(id_, stored) if stored else None


async def every(ledger: LedgerConnection) -> list[ErasureRequest]:
    """Return all requests, those that came first at the beginning."""
    (flat,) = await ledger.carrier.run([("HGETALL", keys.erasures(ledger.namespace))])
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return sorted((ErasureRequest.read(text(id_), stored) for id_, stored in pairs), key=lambda one: (one.at, one.id))


async def begin(ledger: LedgerConnection, request: ErasureRequest) -> tuple[ErasureRequest, SubjectAnswer]:
    """Write a request down and tell every slot of it; one that stands already is told again, and stays as it is.

    Returns:
        The request as it stands, and whether every slot has taken it: a worker tells those that have not.

    Raises:
        InvalidResource: its id belongs to another subject.
        RegistryUnavailable: no answer in time; say it again.
        RegistryRefused: Redis refused.

    """
    call: Call[str] = Call(
        script("registry/lua/subjects/ask_erasure"),
        keys.erasures(ledger.namespace),
        (request.id, request.stored()),
        text,
    )
    (stored,) = await ledger.carrier.carry_lasting([call])
    standing = ErasureRequest.read(request.id, stored)
    same_subject(standing, request)
    if standing.state is not State.OPEN:
        return standing, SubjectAnswer()
    if stored == request.stored():
        await audit(ledger, standing, "erasure_requested", await slots(ledger))
    return standing, await tell(ledger, standing)


def same_subject(standing: ErasureRequest, request: ErasureRequest) -> None:
    """Refuse a request whose id belongs to another one.

    Raises:
        InvalidResource: it belongs to another subject, or to one whose record has ended.

    """
    if standing.subject != request.subject:
        raise InvalidResource(f"request id {request.id} belongs to another subject: give each request its own")


async def tell(ledger: LedgerConnection, request: ErasureRequest) -> SubjectAnswer:
    """Let every slot know of a request: from then on, what is deleted of the subject counts for it."""
    fact = codec.dump({"id": request.id, "at": request.at, "until": request.until})
    return await ledger.carrier.say(Subjects(ledger.commands).erase(request.subject, request.id, fact))


async def told(ledger: LedgerConnection) -> dict[str, list[dict[str, Any]]]:
    """Return what every slot is told of requests, by subject: of each its ``id``, ``at`` and ``until``."""
    (flat,) = await ledger.carrier.run([("HGETALL", keys.held_subjects(ledger.namespace))])
    pairs = ((text(name), stored) for name, stored in zip(flat[::2], flat[1::2], strict=True))
    return {name.removeprefix(ERASURE): json.loads(stored) for name, stored in pairs if name.startswith(ERASURE)}


async def audit(
    ledger: LedgerConnection, request: ErasureRequest, event: str, chosen: Sequence[tuple[str, str]]
) -> None:
    """Write down in the audit of each of these (provider, kind) what happened to a request.

    One that refuses it keeps no other waiting, and the request neither: nothing is deleted where no audit is written.
    """
    control = Halts(ledger.carrier, ledger.namespace)
    about = {"subject": request.subject, "request": request.id, "actor": request.actor}
    for provider, kind in chosen:
        with apart("erasure.not_audited", request=request.id, provider=provider, kind=kind):
            at = Partition(provider, kind, "")
            await control.record(at, event, **about, asked=request.at, until=request.until)


async def slots(ledger: LedgerConnection) -> list[tuple[str, str]]:
    """Return every (provider, kind) that anybody ever wrote to."""
    return await ledger.carrier.say(Subjects(ledger.commands).slots())


async def end(ledger: LedgerConnection, request: ErasureRequest) -> None:
    """Let no slot know of a request any more."""
    await ledger.carrier.say(Subjects(ledger.commands).erase(request.subject, request.id, ""))


async def store(ledger: LedgerConnection, request: ErasureRequest) -> None:
    """Write down how far a request has come."""
    await ledger.carrier.write(("HSET", keys.erasures(ledger.namespace), request.id, request.stored()))


async def take_up(ledger: LedgerConnection, section: ErasureSection, now: int) -> int:
    """Begin what applications asked for, as fast as ``[erasure] rate`` allows; return how many requests.

    Where ``by_application`` is false, they are refused and stand in the list as that.
    """
    waiting = await _waiting(ledger, section, now)
    if not waiting:
        return 0
    standing = {one.id: one for one in await every(ledger)}
    since = now - round(section.rate.window * 1000)
    room = section.rate.amount - sum((one.taken or 0) >= since for one in standing.values())
    taken = 0
    for request in waiting:
        counts = section.by_application and request.id not in standing
        if counts and taken >= room:
            continue
        try:
            await begin(ledger, request)
        except InvalidResource as error:
            await _drop(ledger, request.id, error)
            continue
        taken += counts
        await ledger.carrier.run([("HDEL", keys.asked_erasures(ledger.namespace), request.id)])
    return taken


async def _waiting(ledger: LedgerConnection, section: ErasureSection, now: int) -> list[ErasureRequest]:
    """Return what applications ask for, oldest first; what is none is dropped: their Redis user may write it."""
    (flat,) = await ledger.carrier.run([("HGETALL", keys.asked_erasures(ledger.namespace))])
    found = []
    for field, stored in zip(flat[::2], flat[1::2], strict=True):
        id_ = field.decode(errors="replace")
        try:
            found.append(_asked(id_, stored, section, now))
        except (InvalidResource, ArithmeticError, RecursionError, TypeError, ValueError) as error:
            await _drop(ledger, id_, error)
    return sorted(found, key=lambda one: one.at)


async def _drop(ledger: LedgerConnection, id_: str, error: Exception) -> None:
    log.warning("erasure.dropped", request=ascii(id_)[:80], error=str(error))
    await ledger.carrier.run([("HDEL", keys.asked_erasures(ledger.namespace), id_)])


def _asked(id_: str, stored: bytes, section: ErasureSection, now: int) -> ErasureRequest:
    """Return what an application asked for, with what is not its to say.

    Raises:
        InvalidResource, ArithmeticError, RecursionError, TypeError, ValueError: it is no request.

    """
    if request_id(id_) != id_:
        raise InvalidResource(f"request id {id_} is not in its one form")
    said = ErasureRequest.read(id_, stored)
    at, received = min(int(said.at), now), min(int(said.received), now)
    return ErasureRequest(
        id_,
        name_of(said.subject),
        at,
        at + round(section.late * 1000),
        received,
        received + round(section.due * 1000),
        said.reason and codec.text(said.reason, "reason"),
        codec.text(said.actor, "actor"),
        by_application=True,
        taken=now,
        state=State.OPEN if section.by_application else State.REFUSED,
    )
