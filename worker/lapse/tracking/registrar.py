"""What is said to the registry of what an exchange says."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from lapse.registry import keys
from lapse.registry.commands import Commands
from lapse.registry.model import Answer, Record
from lapse.registry.protocol import Conversation, Protocol
from lapse.tracking import notices, touches
from lapse.tracking.apis.endpoints import Name
from lapse.tracking.context import ContextFacts
from lapse.tracking.settings import Tracking
from lapse.tracking.statements import Means, Statement
from lapse.tracking.touches import Touches

UNASSIGNED = "unassigned"
"""The policy of what an application's own function named none for: no worker knows it, so it is kept and shown."""

TTLS_LAST = 60.0
"""Seconds after which the registry is asked anew for the policies' times to live."""


def registrars(settings: Tracking, registry: Protocol) -> Callable[[Any], "Registrar | None"]:
    """Return who says what a request means: one for the provider named, or one for each that is named for a request."""
    named = settings.provider
    if not callable(named):
        one = Registrar(settings, registry)
        return lambda _request: one
    each = cache(lambda provider: Registrar(replace(settings, provider=keys.provider(provider)), registry))

    def chosen(request: Any) -> Registrar | None:
        provider = named(request)
        return None if provider is None else each(provider)

    return chosen


class Registrar:
    """Says of one account what its exchanges say, in conversations with a registry that others carry.

    Args:
        settings: What the application said at ``track``.
        registry: The registry's calls.

    """

    def __init__(self, settings: Tracking, registry: Protocol) -> None:
        self.settings = settings
        self._provider = str(settings.provider)
        self._registry = registry
        self._touches = Touches()
        self._every: dict[str, tuple[float, float]] = {}

    def stamp(self, kind: str, facts: ContextFacts) -> Conversation[dict[str, str]]:
        """Return the stamp of an object of a kind that is about to be created; {} where it gets none."""
        chosen = self.settings.policies.get(kind)
        policy = chosen if chosen is None or (isinstance(chosen, str) and not facts.policy) else facts.policy
        if policy is None:
            return {}
        return (yield from self._registry.stamp_ahead(policy, self._provider, kind))

    def record(self, statements: Iterable[Statement], facts: ContextFacts, nonce: str = "") -> Conversation[None]:
        """Say what statements mean: what was created first, for nobody else knows of it; ``nonce`` is its stamp's."""
        merged: dict[Name, Statement] = {}
        for one in statements:
            merged[one.object] = one.and_(merged[one.object]) if one.object in merged else one
        for one in sorted(merged.values(), key=lambda one: one.means is not Means.CREATED):
            if one.means is Means.CREATED:
                yield from self._register(one, facts)
                if nonce:
                    yield from self._registry.stamp_belongs(nonce, *one.object, self._provider)
            elif one.means is Means.DELETED:
                yield from self._answer(Commands.deleted, one.object)
            else:
                yield from self._used(one, facts)

    def look(self, name: Name) -> Conversation[Record | None]:
        """Return what the registry knows of an object; None also where it cannot say."""
        return self._registry.get(*name, self._provider)

    def ended(self, name: Name, *, gone: bool) -> Conversation[None]:
        """Say that the scope of an object ended: it is due now, or it lives by its policy from now on."""
        if name.kind not in self.settings.policies:
            return
        answer = yield from self._answer(Commands.expire if gone else Commands.unexpire, name)
        record = (yield from self.look(name)) if gone and answer else None
        if record and (yield from self._registry.observes(name.kind, record.policy, self._provider)):
            notices.once("observed", record.policy, f"{record.policy} only observes: nothing deletes what a scope made")

    def _answer(self, call: Callable[..., Any], name: Name, **said: Any) -> Conversation[Answer]:
        return self._registry.answer(call, name.kind, name.id, self._provider, **said)

    def _register(self, one: Statement, facts: ContextFacts, **more: Any) -> Conversation[None]:
        kind, id_ = one.object
        if kind not in self.settings.policies:
            notices.once("unnamed", kind, f"policies= names no {kind}: none is registered")
            return
        policy = self._policy(kind, one.answer, facts)
        if policy is None:
            return
        labels = facts.labels
        missing = [name for name in self.settings.require if not getattr(facts, name)]
        if missing and one.means is Means.CREATED:
            labels = {**labels, "lapse.missing": ",".join(missing)}
            site = notices.call_site()
            notices.once("missing", site, f"a {kind} is created without {', '.join(missing)}: {site or id_}")
        notices.counted("registered")
        said = {"subject": facts.subject, "labels": labels or None, "expires_in": facts.expires_in, **more}
        given = {name: value for name, value in said.items() if value is not None}
        names = {"provider": self._provider, "kind": kind, "id": id_, "policy": policy}
        yield from self._registry.register({**names, "uses": one.uses, **given})

    def _policy(self, kind: str, answer: Any, facts: ContextFacts) -> str | None:
        chosen = self.settings.policies[kind]
        if not callable(chosen):
            return facts.policy or chosen
        try:
            named = chosen(kind, answer)
            return None if named is None else facts.policy or keys.name(named, "policy")
        except Exception as error:  # the application's own function: its object is there already
            notices.once(
                "policy_failed", kind, f"the policy of a {kind}: {error!r}; it is registered under {UNASSIGNED}"
            )
            return UNASSIGNED

    def _used(self, one: Statement, facts: ContextFacts) -> Conversation[None]:
        """Touch what is used, and remember what it refers to; an unknown one may have to be learned."""
        now, (kind, id_) = time.monotonic(), one.object
        every = yield from self._touch_every(kind, now)
        known = True
        if self._touches.due(kind, id_, now, every):
            answer = yield from self._answer(Commands.touch, one.object)
            if answer is Answer.FAILED:
                return
            known = answer is not Answer.UNKNOWN or (yield from self._learned(one, facts))
            self._touches.done(kind, id_)
        fresh = [use for use in one.uses if self._touches.due(kind, f"{id_}>{use.kind}/{use.id}", now, every)]
        if not (fresh and known):
            return
        if (yield from self._answer(Commands.use, one.object, uses=fresh)) is not Answer.FAILED:
            for use in fresh:
                self._touches.done(kind, f"{id_}>{use.kind}/{use.id}")

    def _learned(self, one: Statement, facts: ContextFacts) -> Conversation[bool]:
        """Register an id that the registry never knew, if that is wanted; one that it has let go of is not learned."""
        wanted = one.means is Means.SEEN or self.settings.learns
        if not (
            wanted
            and one.object.kind in self.settings.policies
            and (yield from self._registry.never_knew(*one.object, self._provider))
        ):
            return False
        said = one.answer.get("created_at") if isinstance(one.answer, dict) else None
        known = isinstance(said, int | float) and not isinstance(said, bool)
        # The context is that of this use, not of the creation: its expiry would have an old object deleted.
        facts = replace(facts, expires_in=None) if one.means is Means.SEEN else ContextFacts()
        yield from self._register(one, facts, **({"created_at": said} if known else {}))
        return True

    def _touch_every(self, kind: str, now: float) -> Conversation[float]:
        """Return after how many seconds an id of a kind is touched again."""
        every, asked = self._every.get(kind, (touches.UNKNOWN, -TTLS_LAST))
        if now - asked >= TTLS_LAST and not self._registry.away:
            every = touches.every((yield from self._registry.shortest_ttl(kind, self._provider)))
            self._every[kind] = every, now
        return every
