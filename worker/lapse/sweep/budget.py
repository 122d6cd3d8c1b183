"""What one sweep may spend: its seconds, and tokens of the provider's request budget."""

import time

from lapse.guards.context import SweepContext
from lapse.providers.outcomes import Limited


class SweepBudget:
    """The time of one sweep, and tokens for as long."""

    def __init__(self, context: SweepContext, seconds: float | None) -> None:
        """Begin now; ``seconds``: if less than the configured budget."""
        self._context = context
        self._began = time.monotonic()
        self._deadline = self._began + min(seconds or context.settings.budget, context.settings.budget)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._deadline - time.monotonic()

    def spent(self) -> float:
        """Return the seconds since the sweep began."""
        return time.monotonic() - self._began

    async def spend(self, requests: int = 1) -> None:
        """Wait for request tokens while the sweep lasts.

        Raises:
            Limited: they would come too late, or the process is to end.

        """
        if self._context.stop.is_set():
            raise Limited("the worker ends")
        await self._context.throttle.spend(requests, within=self.left())
