"""What an object says itself just before its deletion, and whether that lets it live."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from lapse.errors import InvalidResource
from lapse.policy import Keep
from lapse.policy.preconditions import Preconditions, active
from lapse.providers.kinds import Kind
from lapse.providers.not_found import absent
from lapse.providers.outcomes import (
    Limited,
    Outcome,
    Spend,
    Verdict,
    classify_read,
    exists,
    limited,
    listed,
    unconfirmed,
    unnamed,
    unreadable,
)
from lapse.providers.pagination import Listed, read_object
from lapse.providers.provider import Provider
from lapse.providers.renaming import renamed
from lapse.providers.response import Reply, document
from lapse.registry.keys import identifier


@dataclass(frozen=True, slots=True)
class Target:
    """One object of one account, and what requests about it are taken from.

    ``spend`` is awaited before every request but the DELETE itself, whose token came with the claim. It has to raise
    ``Limited`` once the claim's lease leaves no time: there may be any number of children.
    """

    provider: Provider
    kind: Kind
    id: str
    spend: Spend


@dataclass(frozen=True, slots=True)
class Precheck:
    """What a look showed: a verdict if the object is not to be deleted now, and its body if it was read."""

    verdict: Verdict | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


async def look(target: Target, preconditions: Preconditions) -> Precheck:
    """Read what decides about an object; no request where nothing does.

    A read that finds it gone is the answer where it says so in words that are known: a DELETE would act on something
    whose name was never seen. In words that are not, it may be that GET has others than DELETE: where nothing that
    the object says could protect it, the DELETE decides.
    """
    provider, kind = target.provider, target.kind
    try:
        body: Mapping[str, Any] = {}
        if preconditions.ask(kind):
            await target.spend(1)
            reply = await provider.read(kind, target.id)
            shown = exists(kind, target.id, reply) or (provider.opaque and renamed(kind, target.id, reply))
            found = read_object(kind, document(reply)) if shown else None
            if unnamed(kind, reply) and not absent(kind.not_found, provider.recognisers, target.id, reply):
                await target.spend(1)
                reply = await provider.absence(kind, target.id)
            if found is None:
                missed = classify_read(kind, target.id, reply, provider.recognisers)
                return Precheck() if unreadable(missed) and not preconditions.protects(kind) else Precheck(missed)
            body = document(reply)
            verdict = _said_of(kind, found, reply, preconditions)
            if verdict and verdict.outcome is Outcome.CONFLICT and preconditions.cancel and kind.cancel:
                verdict = await _cancel(target, kind.cancel)
            if verdict:
                return Precheck(replace(verdict, present=True, identity=reply.identity, sent_at=reply.sent_at))
        return Precheck(await _at_work(target, preconditions), body)
    except Limited as reason:
        return Precheck(limited(reason))


def _said_of(kind: Kind, found: Listed, reply: Reply, preconditions: Preconditions) -> Verdict | None:
    if preconditions.judge and (why := preconditions.judge(found)):
        return Verdict(Outcome.KEPT, status=reply.status, detail=why)
    if any(rule.matches(found.name, found.metadata) for rule in preconditions.keep):
        return Verdict(Outcome.KEPT, status=reply.status, detail="a keep rule matches")
    if kind.is_system(found.metadata):
        return Verdict(Outcome.KEPT, status=reply.status, detail="the provider made it for itself")
    body = document(reply)
    if unseen := _unseen(kind, body, preconditions.keep):
        return unconfirmed(reply, f"without a {unseen} to go by")
    if body.get("status") in kind.busy:
        return Verdict(Outcome.CONFLICT, status=reply.status, detail=f"its status is {body['status']}")
    return active(preconditions.idle_since, found.last_active_at)


def _unseen(kind: Kind, body: Mapping[str, Any], keep: Sequence[Keep]) -> str | None:
    """Return what decides and the object does not show: absent, or of another type than its own."""
    if any(rule.name is not None for rule in keep) and not isinstance(body.get(kind.name_field, 0), str | None):
        return "name"
    if (kind.system or any(rule.metadata for rule in keep)) and not isinstance(body.get("metadata", 0), dict | None):
        return "metadata"
    if kind.busy and not isinstance(body.get("status"), str):
        return "status"
    return None


async def _at_work(target: Target, preconditions: Preconditions) -> Verdict | None:
    """Look at the newest run on an object. A server without such a list does not tell, and the DELETE decides."""
    kind = target.kind
    if kind.runs is None or preconditions.resting:
        return None
    await target.spend(1)
    reply = await target.provider.part("read", "GET", kind, target.id, f"{kind.runs.path}?limit=1&order=desc")
    page = listed(kind, reply)
    if page is None:
        verdict = classify_read(kind, target.id, reply, target.provider.recognisers)
        return verdict if verdict.outcome in _TELLS_NOTHING else None
    newest = next((run for run in page["data"] if isinstance(run, dict)), {})
    if newest.get("status") not in kind.runs.active:
        return None
    if preconditions.cancel and kind.cancel and (run := _identified(newest)):
        return await _cancel(target, f"{kind.runs.path}/{run}{kind.cancel}")
    return Verdict(Outcome.CONFLICT, status=reply.status, detail=f"a run on it is {newest['status']}")


def _identified(run: Mapping[str, Any]) -> str | None:
    """Return a run's id as it stands in a URL, or None if it has none that could."""
    try:
        return quote(identifier(run.get("id")), safe="")
    except InvalidResource:
        return None


_TELLS_NOTHING = frozenset(
    {
        Outcome.AUTH,
        Outcome.FORBIDDEN,
        Outcome.QUOTA,
        Outcome.RATE_LIMITED,
        Outcome.ERROR,
        Outcome.UNSUPPORTED,
        Outcome.LIMITED,
    }
)


async def _cancel(target: Target, path: str) -> Verdict:
    """Ask for the end of what runs, "attempted but not guaranteed": whether it ended is seen at the next attempt."""
    await target.spend(1)
    reply = await target.provider.part("cancel", "POST", target.kind, target.id, path)
    if not reply.sent:
        return classify_read(target.kind, target.id, reply, target.provider.recognisers)
    return Verdict(Outcome.CONFLICT, status=reply.status, detail="what runs on it was told to end")
