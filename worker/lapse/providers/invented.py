"""An id that never existed, deleted once a sweep: does this server say so, or does it confirm whatever it is asked?

Where ids are opaque, no confirmation names the id that was asked for. One that comes for an invented id as well is
worth nothing.
"""

import asyncio
import re
import secrets

from lapse.providers.kinds import Kind
from lapse.providers.not_found import ABSENT
from lapse.providers.outcomes import Spend
from lapse.providers.provider import Provider

_PREFIX = re.compile(r"[A-Za-z]+[_-]")


class Invented:
    """What one sweep knows of how its provider answers to invented ids, by kind."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._missing: dict[str, bool] = {}
        self._asking = asyncio.Lock()

    async def missing(self, kind: Kind, object_id: str, spend: Spend) -> bool:
        """Return True if the DELETE of an id made up after the pattern of this one is answered by "not found".

        Raises:
            Limited: no request tokens in time.

        """
        async with self._asking:  # one question for all that are in flight
            if kind.name not in self._missing:
                await spend(1)
                reply = await self._provider.delete(kind, invented(object_id))
                self._missing[kind.name] = reply.status in ABSENT
            return self._missing[kind.name]


def invented(object_id: str) -> str:
    """Return an id of the same prefix that nothing has: 128 random bits."""
    prefix = _PREFIX.match(object_id)
    return f"{prefix[0] if prefix else ''}{secrets.token_hex(16)}"
