"""What a worker process publishes in the registry: that it lives, with which config, and which names it knows."""

import json
import time

from lapse import __version__
from lapse.ledger.halts import Halts
from lapse.policy import Config
from lapse.providers.kinds import KINDS
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.runtime.host import Host

TOLD = 1000  # slots that applications said they write to: a provider's name is no data
SHOWN_EVERY = 30.0  # seconds between two signs of life of one process
SHOWN_FOR = 3600.0  # seconds; an older sign of life is taken away


class Published:
    """What one worker process says of itself, and reads of the others."""

    def __init__(self, host: Host, carrier: Carrier, control: Halts, worker: str) -> None:
        """Begin with nothing said; ``worker``: this process' name."""
        self._host = host
        self._carrier = carrier
        self._control = control
        self._namespace = host.config.registry.namespace
        self._worker = worker
        self._shown = 0.0

    async def show(self, config: Config) -> None:
        """Say that this process lives, and with which config; take away what processes of the past said."""
        if time.monotonic() - self._shown < SHOWN_EVERY:
            return
        self._shown = time.monotonic()
        now, name = await self._control.now(), keys.workers(self._namespace)
        said = {"at": now, "hash": config.hash, "version": __version__}
        await self._carrier.write(("HSET", name, self._worker, json.dumps(said)))
        (flat,) = await self._carrier.run([("HGETALL", name)])
        old = [
            worker.decode()
            for worker, text in zip(flat[::2], flat[1::2], strict=True)
            if now - json.loads(text)["at"] > SHOWN_FOR * 1000
        ]
        if old:
            await self._carrier.run([("HDEL", name, *old)])

    async def begin(self, config: Config, sent: int | None, now: int) -> list[tuple[str, str]] | None:
        """Publish that a tick arrived and what this worker knows; return every (provider, kind) that was ever known.

        None if housekeeping began after the tick was sent: over a Redis far away, or with much to do, it takes
        longer than the interval, and what waits in the queue would keep sweeps from their turn.
        """
        published = await self._control.published()
        tick: dict[str, str | int] = {} if sent is None else {"tick": min(sent, now)}
        if sent is not None and sent < int(published.get("kept", 0)) <= now:
            await self._control.publish(tick)
            return None
        slots = {(rule.partition.provider, rule.partition.kind) for rule in config.rules}
        before = json.loads(published.get("slots", "[]"))
        (told,) = await self._carrier.run([("SMEMBERS", keys.slots(self._namespace))])
        slots |= set(keys.slots_named(told)[:TOLD])
        known = sorted(slots | {(provider, kind) for provider, kind in before})
        kinds = {kind for kinds in KINDS.values() for kind in kinds}
        about = {"hash": config.hash, "path": str(config.path), "ok": self._host.file.ok, "worker": self._worker}
        await self._control.publish(
            {
                "config": json.dumps(about),
                "providers": json.dumps(sorted(config.accounts)),
                "policies": json.dumps([str(rule.partition) for rule in config.rules]),
                "slots": json.dumps(known),
                "kinds": json.dumps(sorted(kinds)),
                "erasure": "by_application" if config.erasure.by_application else "",
                "kept": now,
                **tick,
            }
        )
        return known
