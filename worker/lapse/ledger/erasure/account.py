"""A request to erase a subject with all that it found: what became of each id, and why what is left is left."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from lapse.errors import InvalidResource
from lapse.ledger.erasure import members
from lapse.ledger.erasure.members import Slot
from lapse.ledger.erasure.request import ErasedId, ErasureAccount, ErasureRequest, Fate
from lapse.ledger.erasure.requests import find, slots, told
from lapse.ledger.halts import Halts
from lapse.ledger.partition import Ledger
from lapse.ledger.reasons import BESIDE, STANDING
from lapse.ledger.records import Seen, scanned
from lapse.registry import codec, keys
from lapse.registry.model import Partition, Resource
from lapse.registry.scripts import text

MEANING = {
    keys.ERASED: {
        "erased": (Fate.ERASED, ""),
        "already_gone": (Fate.ALREADY_GONE, ""),
        "dropped": (Fate.UNPROVABLE, "an operator dropped it from quarantine"),
    },
    keys.WITHDRAWN: {
        "forgotten": (Fate.UNPROVABLE, "the application had lapse forget it"),
        "deleted": (Fate.ALREADY_GONE, "the application had it deleted, and says that the provider confirmed it"),
    },
}
"""What scripts write down of an id that left the registry, and what that means."""


async def account_of(ledger: Ledger, request_id: str) -> ErasureAccount:
    """Return a request with everything that it found.

    Raises:
        InvalidResource: there is no such request.
        RegistryUnavailable: no answer in time.

    """
    request = await find(ledger, request_id)
    if request is None:
        raise InvalidResource(f"there is no request {request_id}: lapse erase list shows all of them")
    return await account_with(ledger, request)


async def unsubjected(ledger: Ledger) -> int:
    """Return how many ids are registered of which ``require=("subject",)`` noted that nobody said whose they are."""
    found = 0
    for slot in await slots(ledger):
        name = keys.slot(ledger.namespace, *slot) + keys.FACTS
        async for _id, stored in scanned(ledger.carrier, "HSCAN", name):
            said = json.loads(stored)
            found += "subject" in said.get("labels", {}).get("lapse.missing", "").split(",") and "subject" not in said
    return found


async def account_with(ledger: Ledger, request: ErasureRequest, going: Collection[Resource] = ()) -> ErasureAccount:
    """Return a request, which may stand nowhere yet, with everything that it found, or would find.

    ``going``: what goes before what it uses, though it is not of the request.
    """
    chosen = await slots(ledger)
    left = await members.standing(ledger, request, chosen) if request.subject else {}
    surroundings = await _surroundings(ledger, chosen)
    found = await _outcomes(ledger, request, chosen)
    others = {*left, *going}
    for resource, seen in left.items():
        at = Partition(resource.provider, resource.kind, str(seen.record["p"]))
        found[resource] = _left(_Case(request, at, seen, others, surroundings))
    _keep_what_is_used(found, left)
    return ErasureAccount(request, [found[one] for one in sorted(found)])


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What keeps workers from deleting: pauses, halts by partition, open breakers, and what none of them knows."""

    pauses: Collection[str]
    halts: Mapping[tuple[str, str, str], str]
    breakers: Mapping[Slot, str]
    providers: Collection[str]
    kinds: Collection[str]
    erasures: Mapping[str, Sequence[Mapping[str, Any]]]

    def stops(self, at: Partition) -> str:
        """Return why nothing is deleted in a partition now, or ""."""
        scopes = ("*", at.provider, f"{at.provider}/{at.kind}", str(at))
        if scope := next((scope for scope in scopes if scope in self.pauses), None):
            return f"paused: lapse resume {scope}"
        for policy in (at.policy, "*"):
            if reason := self.halts.get((at.provider, at.kind, policy)):
                return f"halted: {reason}"
        return ""


async def _surroundings(ledger: Ledger, chosen: Sequence[Slot]) -> _Surroundings:
    control = Halts(ledger.carrier, ledger.namespace)
    published = await control.published()
    halts = {
        (halt.provider, halt.kind, halt.policy): halt.reason
        for halt in await control.halts(chosen)
        if halt.reason not in STANDING | BESIDE
    }
    return _Surroundings(
        await control.pauses(),
        halts,
        await _breakers(ledger, chosen),
        set(json.loads(published.get("providers", "[]"))),
        set(json.loads(published.get("kinds", "[]"))),
        await told(ledger),
    )


def _keep_what_is_used(found: dict[Resource, ErasedId], left: Mapping[Resource, Seen]) -> None:
    """Say of what waits for its users that it stays, where one of them does: it is in use for as long."""
    users = {resource: [codec.edge(user) for user in seen.used_by] for resource, seen in left.items() if seen.used_by}
    while kept := {one: by for one, theirs in users.items() if _goes(found[one]) and (by := _stays(found, theirs))}:
        for one, by in kept.items():
            detail = f"used by {by.kind} {by.id}, which stays: {found[by].fate}"
            found[one] = replace(found[one], fate=Fate.IN_USE, detail=detail, again=None)


def _goes(one: ErasedId) -> bool:
    return one.fate is Fate.PENDING and not one.blocked


def _stays(found: Mapping[Resource, ErasedId], users: Sequence[Resource]) -> Resource | None:
    return next((user for user in users if user in found and not _goes(found[user])), None)


async def _breakers(ledger: Ledger, chosen: Sequence[Slot]) -> dict[Slot, str]:
    """Return why no request is sent about a kind, or to an account at all, by (provider, kind)."""
    asked = [("HGET", keys.slot(ledger.namespace, *slot) + keys.MARKS, "shut") for slot in chosen]
    asked += [("HGET", keys.throttle(ledger.namespace, provider), "breaker_since") for provider, _kind in chosen]
    said = await ledger.carrier.run(list(asked)) if asked else []
    kinds, accounts = said[: len(chosen)], said[len(chosen) :]
    found = {slot: f"the breaker of {slot[0]} is open" for slot, since in zip(chosen, accounts, strict=True) if since}
    shut = {
        slot: f"the breaker of this kind is open: {text(why)}" for slot, why in zip(chosen, kinds, strict=True) if why
    }
    return found | shut


async def _outcomes(ledger: Ledger, request: ErasureRequest, chosen: Sequence[Slot]) -> dict[Resource, ErasedId]:
    """Return what scripts wrote down of the ids that left the registry."""
    found: dict[Resource, ErasedId] = {}
    for slot, name in product(chosen, keys.OUTCOMES):
        hash_ = f"{keys.slot(ledger.namespace, *slot)}{name}:{request.id}"
        async for id_, stored in scanned(ledger.carrier, "HSCAN", hash_):
            one = _outcome(Resource(*slot, id_), json.loads(stored), MEANING[name])
            before = found.get(one.resource)
            if before is None or (before.at or 0) <= (one.at or 0):  # of two lives of an id the later one
                found[one.resource] = one
    return found


def _outcome(resource: Resource, said: Mapping[str, Any], meaning: Mapping[str, tuple[Fate, str]]) -> ErasedId:
    # Applications may write what they said themselves: whatever stands there, it is no more than that.
    fate, detail = meaning.get(str(said["o"]), (Fate.UNPROVABLE, "nobody knows what became of it"))
    why = str(said.get("why", detail)) if meaning is MEANING[keys.ERASED] else detail
    answer = (said.get("status"), said.get("request")) if meaning is MEANING[keys.ERASED] else (None, None)
    return ErasedId(resource, fate, why, said.get("at"), *answer, said.get("p"))


@dataclass(frozen=True, slots=True)
class _Case:
    """One id that is tracked still; ``others``: everything else of its request that is, and what goes before it."""

    request: ErasureRequest
    at: Partition
    seen: Seen
    others: Collection[Resource]
    surroundings: _Surroundings


Finding = tuple[Fate, str] | None


def _held(case: _Case) -> Finding:
    hold = case.seen.hold
    if hold is None or hold.get("until", case.seen.now + 1) <= case.seen.now:
        return None
    return Fate.HELD, str(hold["reason"]) + (f" (subject {hold['subject']})" if hold.get("subject") else "")


def _shared(case: _Case) -> Finding:
    said, created = case.seen.facts.get("subject") or [], case.seen.created or 0
    for subject in [said] if isinstance(said, str) else said:
        covered = any(created < one["until"] for one in case.surroundings.erasures.get(subject, ()))
        if subject != case.request.subject and not covered:
            return Fate.IN_USE, f"it is {subject}'s too"
    return None


def _used(case: _Case) -> Finding:
    strangers = [user for user in case.seen.used_by if codec.edge(user) not in case.others]
    return (Fate.IN_USE, f"used by {_named(strangers)}") if strangers else None


def _unknown(case: _Case) -> Finding:
    at, known = case.at, case.surroundings
    if at.provider not in known.providers:
        return Fate.UNPROVABLE, f"provider not configured: no worker knows {at.provider}"
    return None if at.kind in known.kinds else (Fate.UNPROVABLE, f"no worker knows the kind {at.kind}")


def _stopped(case: _Case) -> Finding:
    why = case.surroundings.stops(case.at)
    why = why or case.surroundings.breakers.get((case.at.provider, case.at.kind), "")
    return (Fate.PENDING, why) if why else None


def _tried(case: _Case) -> Finding:
    seen, reason = case.seen, case.seen.record.get("r") or ""
    if reason == "unproven":
        return Fate.UNPROVABLE, "the provider does not find it, and that it is gone is not proven"
    tried = bool(seen.record.get("i"))
    if tried and seen.state == "quarantined":
        return Fate.PENDING, f"quarantined: {seen.record.get('m') or reason}; lapse quarantine retry"
    if tried and seen.state in {"waiting", "kept"}:
        return Fate.PENDING, f"it was tried: {reason or seen.state}"
    return (Fate.PENDING, "a worker deletes it now") if seen.state == "claimed" else None


def _later(case: _Case) -> Finding:
    users = case.seen.used_by
    return Fate.PENDING, f"after what uses it: {_named(users)}" if users else "not begun"


WHY = (_held, _shared, _used, _unknown, _stopped, _tried, _later)
"""Asked in this order: the first that finds something says what becomes of an id, and why it is tracked still."""


def _left(case: _Case) -> ErasedId:
    fate, why = next(found for ask in WHY if (found := ask(case)))
    at, seen = case.at, case.seen
    waits = seen.state == "waiting" and fate in {Fate.PENDING, Fate.UNPROVABLE}
    halted = fate is Fate.PENDING and bool(case.surroundings.stops(at))
    return ErasedId(
        Resource(at.provider, at.kind, seen.id),
        fate,
        why,
        policy=at.policy,
        again=seen.record.get("d") if waits else None,
        blocked=halted or (fate is Fate.PENDING and seen.state == "quarantined" and bool(seen.record.get("i"))),
        halted=halted,
    )


def _named(users: Sequence[str]) -> str:
    first = codec.edge(users[0])
    return f"{first.kind} {first.id}" + (f" and {len(users) - 1} more" if len(users) > 1 else "")
