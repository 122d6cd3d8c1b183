"""The request budget of one provider, shared by all workers through Redis: bucket, Retry-After, breaker."""

import asyncio
import math
import time
from dataclasses import dataclass

from lapse.providers.account import Account
from lapse.providers.credentials import origin
from lapse.providers.outcomes import Limited, Outcome, Verdict
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.scripts import Call, as_it_is, script

ID_ERROR_WEIGHT = 0.2  # of an answer that was none, or a gateway's: a plain 500 may be one id's own
OUTAGE_PAUSE = 10.0
CREDENTIALS_PAUSE = 60.0
"""Refused credentials and a used-up quota are tried again once a minute, with one request: refusals come and go by
themselves ("Missing scopes", openai.com, April 2026), and a key that is rotated is seen within that minute."""
NO_RETRY_AFTER = 5.0
ODD_RETRY_AFTER = 1.0  # less than any slice: what one id is told in earnest of nothing must stop no other
SHORT_WAIT = 1.0
LONGEST_DETAIL = 300  # characters of an answer that are kept


# No failure, and no sign that the provider works: a login page is an answer too.
_SAYS_NOTHING = frozenset({Outcome.LIMITED, Outcome.RATE_LIMITED, Outcome.FORBIDDEN, Outcome.UNCONFIRMED})


@dataclass(frozen=True, slots=True)
class Grant:
    """How many requests may be sent now; if none, seconds until the next and why: rate, retry_after or breaker."""

    granted: int
    wait: float
    why: str


class Throttle:
    """Requests of one provider. ``waited_ms`` counts what this process waited for tokens since it was last read."""

    def __init__(self, carrier: Carrier, namespace: str, account: Account) -> None:
        self._carrier = carrier
        self._key = keys.throttle(namespace, account.name)
        self._rate = account.rate
        self._origin = origin(account)
        self._failing = False
        self._probing = False
        self._shut_until = 0.0
        self.waited_ms = 0

    @property
    def shut(self) -> bool:
        """True while this process has heard that no request should be sent: claims in hand go back."""
        return not self._probing and time.monotonic() < self._shut_until

    async def take(self, wanted: int) -> Grant:
        """Take up to ``wanted`` tokens; a bucket holds one second's worth, at least one.

        While the breaker is open, one caller in 10 s gets one: its attempt is let through whole.
        """
        return await self._take(wanted, chosen=False)

    async def _take(self, wanted: int, *, chosen: bool) -> Grant:
        rate = -1.0 if self._rate is None else self._rate
        call = self._call("providers/lua/take", rate, max(1, math.ceil(rate)), wanted, int(chosen))
        granted, wait, why = (await self._carrier.carry([call]))[0]
        if why == b"probe":
            self._probing = True
        if wanted > 0 and granted:
            self._shut_until = 0.0  # whatever was heard before, an operator may have ended
        return Grant(int(granted), wait / 1000, why.decode())

    async def give_back(self, unused: int) -> None:
        """Return tokens that no request was sent for."""
        probing = self._probing
        if unused > 0 and (self._rate is not None or probing):
            self._probing = False
            await self._take(-unused, chosen=probing)

    async def spend(self, requests: int = 1, *, within: float = 10.0) -> None:
        """Wait for tokens for requests that are about to be sent.

        Raises:
            Limited: they would not come within ``within`` seconds.

        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while requests > 0:
            grant = await self._take(requests, chosen=self._probing)
            requests -= grant.granted
            if requests > 0:
                # What is in hand goes back at once: nobody is to wait out an outage or a Retry-After.
                if loop.time() + grant.wait > deadline or (grant.why != "rate" and grant.wait > SHORT_WAIT):
                    raise Limited(f"no request tokens in time: {grant.why}", grant.wait)
                await self.pause(grant.wait)

    async def pause(self, seconds: float) -> None:
        """Sleep while waiting for tokens, and count it."""
        self.waited_ms += round(seconds * 1000)
        await asyncio.sleep(seconds)

    async def react(self, verdict: Verdict) -> str | None:
        """Let one answer move the flow for all workers; return ``opened`` or ``mended`` if the breaker changed."""
        if verdict.outcome is Outcome.RATE_LIMITED or verdict.retry_after:
            unsaid = ODD_RETRY_AFTER if verdict.odd else NO_RETRY_AFTER
            await self._block(verdict.retry_after or unsaid, "")
        if verdict.outcome in {Outcome.AUTH, Outcome.QUOTA}:
            return await self._block(CREDENTIALS_PAUSE, str(verdict.outcome), 0, self._cause(verdict))
        if verdict.outcome is Outcome.ERROR:
            self._failing = True
            weight = 1 if verdict.status in {None, 502, 503, 504} else ID_ERROR_WEIGHT
            return await self._block(OUTAGE_PAUSE, "failed", weight, self._cause(verdict))
        if verdict.outcome in _SAYS_NOTHING:
            self._probing = False
            return None
        return await self.answered()

    async def answered(self) -> str | None:
        """Note a good answer: it ends a row of failures, and that of the one attempt let through closes the breaker."""
        probing, failing = self._probing, self._failing
        self._probing = self._failing = False
        return await self._block(0, "mend" if probing else "good") if probing or failing else None

    def _cause(self, verdict: Verdict) -> tuple[str, str]:
        """Return the answer, and by what name and fingerprint the key is known that got it."""
        said = ": ".join(str(part) for part in (verdict.status, verdict.detail) if part)
        key = f"{self._origin}, fingerprint {verdict.identity}" if verdict.identity else self._origin
        return said[:LONGEST_DETAIL], key

    async def _block(
        self, seconds: float, reason: str, weight: float = 0, cause: tuple[str, str] = ("", "")
    ) -> str | None:
        self._probing = False
        call = self._call("providers/lua/block", round(seconds * 1000), reason, weight, *cause)
        changed = int((await self._carrier.carry([call]))[0])
        if seconds and (changed > 0 or not reason):
            self._shut_until = time.monotonic() + seconds
        return {1: "opened", -1: "mended"}.get(changed)

    def _call(self, name: str, *args: str | float) -> Call[list[bytes | int] | int]:
        return Call(script(name), self._key, args, as_it_is)
