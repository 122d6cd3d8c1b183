"""A process that dies at one point of a deletion: what it says to Redis and to the provider is looked at on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from faults.proxy import Proxy
from faults.traffic import Cut, Exchange, Traffic
from lapse.sandbox.redis_server import die_with_parent
from support.lua import named

POINTS = ("claimed", "asking", "executed", "answered", "settling", "settled")
CLAIMS = ("claim", "claim_child", "claim_orphans")


class Taps:
    """Looks at what passes to and from Redis on one connection."""

    def __init__(self, death: "Death") -> None:
        self._death = death
        self._call = ""

    def sent(self, data: bytes) -> None:
        """Take what the process said."""
        about = [name for name in ("settle", *CLAIMS) if named(name).sha.encode() in data]
        # A batch of counters alone settles nothing.
        self._call = about[0] if about and (about[0] != "settle" or b'"settled":[{' in data) else ""
        if self._call == "settle":
            self._death.comes_to("settling")

    def answered(self, data: bytes) -> None:
        """Take a part of what Redis answered: the first of several may not say whom the answer is about."""
        if not self._call or data.startswith(b"-NOSCRIPT"):
            return
        if self._call == "settle":
            self._death.comes_to("settled")
        elif self._death.about in data or b"granted" in data:
            self._death.comes_to("claimed")

    def ended(self) -> None:
        """Take note of the end."""


class Death:
    """Kills a process at a point.

    Attributes:
        at: When, seconds since 1970; 0: it has not come to it.
        provider_url: What the process knows the provider by.

    """

    def __init__(self, point: str, id_: str, redis_url: str, provider_url: str) -> None:
        self.at = 0.0
        self.about = id_.encode()
        self._point = point
        self._pid = 0
        self._traffic = Traffic()
        self._traffic.on_request, self._traffic.on_answer = self._asked, self._answered
        port, provider = urlsplit(redis_url).port or 0, urlsplit(provider_url).port or 0
        self.to_redis = Proxy(port, watch=lambda: Taps(self))
        self.to_provider = Proxy(provider, watch=self._traffic.watcher)
        self._redis_url = redis_url.replace(f":{port}", f":{self.to_redis.port}")
        self.provider_url = provider_url.replace(f":{provider}", f":{self.to_provider.port}")

    def of(self, what: str) -> int:
        """Run a process to its death; return its exit code."""
        command = (sys.executable, "-m", "cells.worker", self._redis_url, self.provider_url, what)
        process = subprocess.Popen(
            die_with_parent(*command), cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL
        )
        self._pid = process.pid
        with process:
            return process.wait(30)

    def close(self) -> None:
        """End everything."""
        self.to_redis.close()
        self.to_provider.close()

    def comes_to(self, point: str, *, goes_on: bool = False) -> None:
        """Kill the process if this is the point; what it had said does not go on, if not said otherwise."""
        if self.at or point != self._point:
            return
        self.at = time.time()
        os.kill(self._pid, signal.SIGKILL)
        if not goes_on:
            raise Cut

    def _asked(self, exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            self.comes_to("asking")
            self.comes_to("executed", goes_on=True)

    def _answered(self, exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            self.comes_to("answered")
