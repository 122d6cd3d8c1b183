"""The list of what is in an object, read over as many attempts as the request budget takes.

What was read is remembered for some hours, so that the next attempt goes on where this one ended; what is gone from the
list since is found when it is taken out.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lapse.providers.kinds import Kind
from lapse.providers.outcomes import Limited, Outcome, Verdict, classify_read, unconfirmed
from lapse.providers.pagination import MAX_PAGES, read_page
from lapse.providers.provider import Provider
from lapse.providers.response import Reply
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.model import Resource
from lapse.registry.scripts import Call, script

PAGE = 100
LASTS = 6 * 3600 * 1000  # ms
OUT = "out:"  # then an id: taken out by us, and not yet deleted

Fetch = Callable[[str], Awaitable[Reply]]
"""Reads the page after an id; of "" the first. Raises ``Limited``."""


class Unreadable(Exception):
    """The list cannot be read to its end; ``verdict`` says why."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


@dataclass(slots=True)
class Members:
    """What is in one object. ``stale``: some of it was read in an earlier attempt."""

    carrier: Carrier
    namespace: str
    owner: Resource
    stale: bool = False
    out: set[str] = field(default_factory=set)
    _ids: dict[str, None] = field(default_factory=dict)
    _after: str = ""
    _whole: bool = False

    async def read(self, provider: Provider, kind: Kind, fetch: Fetch) -> list[str]:
        """Return the ids in the object, those included that were taken out of it and live still.

        Raises:
            Limited: no request tokens in time; the next attempt goes on from here.
            Unreadable: an answer was no page of a list.

        """
        await self._recall()
        try:
            while not self._whole:
                await self._page(provider, kind, await fetch(self._after))
        except Limited:
            await self._keep({"ids": json.dumps(list(self._ids)), "after": self._after})
            raise
        if self.stale:
            await self._keep({"ids": json.dumps(list(self._ids)), "after": self._after, "whole": 1})
        return [*self._ids, *(self.out - self._ids.keys())]

    async def _page(self, provider: Provider, kind: Kind, reply: Reply) -> None:
        page = read_page(kind, reply)
        if page is None:
            verdict = classify_read(kind, self.owner.id, reply, provider.recognisers)
            if verdict.outcome is Outcome.ALREADY_GONE and not self._after:
                self._whole = True  # what that means is for its own DELETE to say
                return
            await self.forget()  # the cursor may be gone
            raise Unreadable(verdict)
        fresh = [item.id for item in page.items if item.id not in self._ids]
        full = len(page.items) >= PAGE
        if not fresh and page.items and not page.last:
            raise Unreadable(unconfirmed(reply, "with a page that shows nothing new but says that there is more"))
        if len(self._ids) > MAX_PAGES * PAGE:
            raise Unreadable(unconfirmed(reply, f"with more than {MAX_PAGES} pages"))
        self._ids.update(dict.fromkeys(fresh))
        # A full page may be one that a proxy cut off: only the next one, which shows nothing new, ends the list.
        self._whole = page.last and not (fresh and full)
        self._after = page.items[-1].id if page.items else self._after
        if not page.items and not page.last:
            raise Unreadable(unconfirmed(reply, "with an empty page that says there are more"))

    async def keep_all(self) -> None:
        """Let the next attempt go on with the list as it was read: not all of it was deleted in this one."""
        if self._whole and len(self._ids) > PAGE:
            await self._keep({"ids": json.dumps(list(self._ids)), "after": self._after, "whole": 1})

    async def taken(self, id_: str) -> None:
        """Remember one that was taken out of the object and could not be deleted: no list shows it any more."""
        if id_ not in self.out:
            self.out.add(id_)
            await self._keep({OUT + id_: 1})

    async def forget(self) -> None:
        """Read the list anew from now on."""
        self._ids, self._after, self._whole, self.stale = {}, "", False, False
        await self.carrier.write(("HDEL", self._name, "ids", "after", "whole"))

    async def _recall(self) -> None:
        if self._ids or self._whole:
            return
        (flat,) = await self.carrier.run([("HGETALL", self._name)])
        stored = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
        self.out = {name.removeprefix(OUT) for name in stored if name.startswith(OUT)}
        if "ids" in stored:
            self._ids = dict.fromkeys(json.loads(stored["ids"]))
            self._after, self._whole, self.stale = stored["after"], "whole" in stored, True

    async def _keep(self, fields: dict[str, str | int]) -> None:
        flat = [part for pair in fields.items() for part in pair]
        await self.carrier.carry([Call(script("sweep/lua/remember"), self._name, (LASTS, *flat), int)])

    @property
    def _name(self) -> str:
        slot = keys.slot(self.namespace, self.owner.provider, self.owner.kind)
        return f"{slot}{keys.MEMBERS}:{self.owner.id}"
