"""What keeps requests from a provider for a while, ended by an operator: a Retry-After, open breakers."""

from collections.abc import Iterable

from lapse.ledger.halts import Halts
from lapse.registry import keys
from lapse.registry.aio import Carrier


class Blocks:
    """Ends what stands between this moment and a provider's next request."""

    def __init__(self, carrier: Carrier, namespace: str) -> None:
        self._carrier = carrier
        self._namespace = namespace
        self._control = Halts(carrier, namespace)

    async def waited(self, provider: str) -> int:
        """End a Retry-After; return how many milliseconds were left of it, 0 without one."""
        key = keys.throttle(self._namespace, provider)
        until, _ = await self._carrier.run([("HGET", key, "blocked_until"), ("HDEL", key, "blocked_until")])
        return max(0, int(until or 0) - await self._control.now())

    async def breaker(self, provider: str) -> bool:
        """Let an open breaker's next attempt through now; False if it is closed."""
        return await self._control.retry(provider)

    async def kinds(self, slots: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Let the next attempt of every kind through whose own breaker is open; return these (provider, kind)."""
        opened = []
        for provider, kind in slots:
            key = keys.slot(self._namespace, provider, kind) + keys.MARKS
            (since,) = await self._carrier.run([("HGET", key, "shut_since")])
            if since is not None:
                await self._carrier.write(("HSET", key, "shut_until", 0))
                opened.append((provider, kind))
        return opened
