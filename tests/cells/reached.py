"""A world whose worker, operator and application reach Redis over a line on which something may go wrong."""

import json
from pathlib import Path
from typing import Any

from cells.line import Line
from lapse.registry.aio import Carrier
from lapse.sandbox import Sandbox
from support.recording import RecordingRegistry
from support.world import World

PATIENCE, SHORT = 5.0, 0.5
"""Seconds until a caller gives up: where nobody is meant to, a busy machine makes nobody."""

FLOW = "lapse:{openai}:flow"


class Reached(World):
    """One application, one worker and one provider.

    ``line``: the URL that leads over the line; ``moved``: where a story has moved audit records to.
    """

    def __init__(self, url: str, line: Line, sandbox: Sandbox, directory: Path, timeout: float = PATIENCE) -> None:
        self.line = line.url
        self.directory = directory
        super().__init__(url, sandbox, Carrier(line.url, timeout))
        self.registry.close()
        self.registry = RecordingRegistry(line.url, provider="openai", timeout=timeout)

    def known(self, id_: str, kind: str = "thread") -> dict[str, Any]:
        """Return what is stored of an id that was put aside."""
        return dict(json.loads(self.raw.hget(f"{self.slot(kind)}aside", id_)))

    def ripen(self) -> None:
        """Let time pass: what waits is due again, and breakers, Retry-After and another mover's lease are over."""
        now = int(self.raw.time()[0]) * 1000 - 1
        for name in (*self.raw.scan_iter("lapse:*:waiting"), *self.raw.scan_iter("lapse:*:suspects")):
            slot = name[: name.index("}") + 2]
            for id_ in self.raw.zrange(name, 0, -1):
                self.raw.zadd(name, {id_: now})
                record = json.loads(self.raw.hget(f"{slot}aside", id_))
                self.raw.hset(f"{slot}aside", id_, json.dumps(record | {"d": now}))
        for name in self.raw.scan_iter("lapse:*:mover"):
            self.raw.delete(name)
        for field in ("blocked_until", "breaker", "breaker_until", "breaker_since"):
            self.raw.hdel(FLOW, field)

    def lapse(self) -> None:
        """Let every lease run out."""
        for name in self.raw.scan_iter("lapse:*:claims"):
            slot = name[: name.index("}") + 2]
            for id_ in self.raw.zrange(name, 0, -1):
                self.raw.zadd(name, {id_: 1})
                record = json.loads(self.raw.hget(f"{slot}aside", id_))
                self.raw.hset(f"{slot}aside", id_, json.dumps(record | {"d": 1}))

    async def aclose(self) -> None:
        """Close every connection."""
        for provider in self.open:
            await provider.aclose()
        self.registry.close()
        self.raw.close()
        await self.carrier.aclose()
