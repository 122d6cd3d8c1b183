"""What one sweep may spend: its seconds, and tokens of the provider's request budget."""

import time

from lapse.guards.context import SweepContext
from lapse.providers.outcomes import Limited

OPENING = 5.0
"""Seconds beyond the configured budget for what a sweep looks at first: a task may last 15 more than that budget."""


class SweepBudget:
    """The time of one sweep, and tokens for as long."""

    def __init__(self, context: SweepContext, seconds: float | None) -> None:
        """Begin now; ``seconds``: if less than the configured budget."""
        self._context = context
        self._seconds = min(seconds or context.settings.budget, context.settings.budget)
        self._began = time.monotonic()
        self._deadline = self._began + self._seconds

    def opened(self) -> None:
        """Count the seconds from now: a Redis far away takes a short slice whole before anything can be claimed."""
        latest = self._began + self._context.settings.budget + OPENING
        self._deadline = min(time.monotonic() + self._seconds, latest)

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
