"""Asking for leases so that a lost reply leases nothing: the question is sent again under the name that it had."""

import asyncio
import secrets
import time
from typing import TypeVar

from lapse.errors import RegistryUnavailable
from lapse.providers.deadline import Deadline
from lapse.registry.aio import Carrier
from lapse.registry.scripts import Call

T = TypeVar("T")

AGAIN = (0.1, 0.5, 1.0)
"""Seconds before each further try. What a question leased whose reply never came is nobody's for a whole lease."""

PATIENCE = 6.0
"""Seconds within which a further try begins: one more after a reply that did not come in time, not three."""


def name() -> str:
    """Return a name for one question: the last argument of every script that leases."""
    return secrets.token_hex(8)


async def lease(carrier: Carrier, call: Call[T], deadline: Deadline) -> T:
    """Run a script that leases, again while its reply gets lost; the script knows the question by its name.

    Raises:
        RegistryUnavailable: no reply came, or none while a request could begin.
        RegistryRefused: Redis refused.

    """
    until = min(deadline.begin_by, time.monotonic() + PATIENCE)
    for pause in AGAIN:
        try:
            return await _once(carrier, call)
        except RegistryUnavailable:
            if time.monotonic() + pause >= until:
                raise
        await asyncio.sleep(pause)
    return await _once(carrier, call)


async def _once(carrier: Carrier, call: Call[T]) -> T:
    reply: T = (await carrier.carry([call]))[0]
    return reply
