"""The request budget of one provider, shared by all workers through Redis: bucket, Retry-After, breaker."""

import asyncio
import math
import time
from dataclasses import dataclass

from lapse import keys
from lapse.aio import Carrier
from lapse.outcomes import Limited, Outcome, Verdict
from lapse.policy import Account
from lapse.scripts import Call, script

OUTAGE_AFTER = 20.0  # answers in a row that were none, or a gateway's
ID_ERROR_WEIGHT = 0.2  # a plain 500 may be one id's own
OUTAGE_PAUSE = 10.0
AUTH_PAUSE = 60.0
NO_RETRY_AFTER = 5.0
ROOM_FOR_WHEN_UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Grant:
    """How many requests may be sent now; if none, seconds until the next and why: rate, retry_after or breaker."""

    granted: int
    wait: float
    why: str


class Flow:
    """Requests of one provider. ``waited_ms`` counts what this process waited for tokens since it was last read."""

    def __init__(self, carrier: Carrier, namespace: str, account: Account) -> None:
        self._carrier = carrier
        self._key = keys.flow(namespace, account.name)
        self._rate = account.rate
        self._errors = 0.0
        self._suspect = False
        self._shut_until = 0.0
        self.waited_ms = 0

    @property
    def shut(self) -> bool:
        """True while this process has heard that no request should be sent: claims in hand go back."""
        return time.monotonic() < self._shut_until

    async def take(self, wanted: int) -> Grant:
        """Take up to ``wanted`` tokens; a bucket holds one second's worth, at least one."""
        rate = -1.0 if self._rate is None else self._rate
        burst = max(1, math.ceil(rate))
        granted, wait, why = (await self._carrier.carry([self._call("take", rate, burst, wanted)]))[0]
        self._suspect = why == b"probe"
        return Grant(int(granted), wait / 1000, why.decode())

    async def give_back(self, unused: int) -> None:
        """Return tokens that no request was sent for."""
        if unused > 0 and self._rate is not None:
            await self._carrier.carry([self._call("take", self._rate, max(1, math.ceil(self._rate)), -unused)])

    async def spend(self, requests: int = 1, *, within: float = 10.0) -> None:
        """Wait for tokens for requests that are about to be sent.

        Raises:
            Limited: they would not come within ``within`` seconds.

        """
        if self._suspect:
            return  # the one attempt that an open breaker lets through is let through whole
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while requests > 0:
            grant = await self.take(requests)
            requests -= grant.granted
            if requests > 0:
                if loop.time() + grant.wait > deadline or grant.why == "breaker":
                    raise Limited(f"no request tokens in time: {grant.why}", grant.wait)
                await self.pause(grant.wait)

    async def pause(self, seconds: float) -> None:
        """Sleep while waiting for tokens, and count it."""
        self.waited_ms += round(seconds * 1000)
        await asyncio.sleep(seconds)

    async def heed(self, verdict: Verdict) -> str | None:
        """Let one answer move the flow for all workers; return ``opened`` or ``mended`` if the breaker changed."""
        if verdict.outcome is Outcome.RATE_LIMITED or verdict.retry_after:
            await self._block(verdict.retry_after or NO_RETRY_AFTER, "")
        if verdict.outcome in {Outcome.AUTH, Outcome.QUOTA}:
            return await self._block(AUTH_PAUSE, str(verdict.outcome))
        if verdict.outcome is Outcome.ERROR:
            self._errors += 1 if verdict.status in {None, 502, 503, 504} else ID_ERROR_WEIGHT
            return await self._block(OUTAGE_PAUSE, "outage") if self._errors >= OUTAGE_AFTER else None
        if verdict.outcome is Outcome.LIMITED or verdict.outcome is Outcome.RATE_LIMITED:
            return None
        self._errors = 0
        if self._suspect:
            self._suspect = False
            return await self._block(0, "mend")
        return None

    async def _block(self, seconds: float, reason: str) -> str | None:
        self._shut_until = time.monotonic() + seconds
        self._suspect = False
        changed = (await self._carrier.carry([self._call("block", round(seconds * 1000), reason)]))[0]
        return {1: "opened", -1: "mended"}.get(int(changed))

    def _call(self, name: str, *args: str | float) -> Call[list[bytes | int] | int]:
        return Call(script(name), self._key, args, lambda reply: reply)
