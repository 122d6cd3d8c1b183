"""What claims, settles and surveys go over: one process' connection to the registry, and how its scripts are called."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from lapse.errors import RegistryRefused, SlotUnavailable
from lapse.registry import keys
from lapse.registry.aio import Carrier
from lapse.registry.commands import Commands
from lapse.registry.model import Partition
from lapse.registry.scripts import Call, text
from lapse.registry.subjects import Subjects

log = structlog.get_logger("lapse")


class LedgerConnection:
    """One worker process, as the registry's scripts know it.

    ``worker`` names it in audit records; ``host`` is the name that all processes of one worker share, this one's own
    if left out. ``freed``: the partitions of what nothing uses any more, by what was settled here.
    """

    def __init__(self, carrier: Carrier, namespace: str, worker: str, *, max_pending: int, host: str = "") -> None:
        self.carrier = carrier
        self.namespace = namespace
        self.worker = worker
        self.host = host or worker
        self.max_pending = max_pending
        self.commands = Commands(namespace, None)
        self.freed: set[Partition] = set()

    def on(self, partition: Partition, name: str, *args: str | float, parse: Any) -> Call[Any]:
        """Return a call of a script on a partition."""
        return self.commands.on_slot(name, partition.provider, partition.kind, partition.policy, *args, parse=parse)

    def on_slot(self, name: str, provider: str, kind: str, *args: str | float, parse: Any = None) -> Call[Any]:
        """Return a call of a script on a slot, which answers with text unless ``parse`` says otherwise."""
        return self.commands.on_slot(name, provider, kind, *args, parse=parse or text)

    async def tell_subjects(self, provider: str, kind: str) -> None:
        """Copy to a slot which subjects are held.

        The slot is named first: a hold that is written after the list was read finds it named, and comes by itself.
        """
        await self.carrier.run([("SADD", keys.slots(self.namespace), f"{provider}/{kind}")])
        await self.carrier.say(Subjects(self.commands).copy_all((provider, kind)))

    def prefix(self, partition: Partition) -> str:
        """Return what the keys of a partition begin with."""
        return keys.partition(self.namespace, partition.provider, partition.kind, partition.policy)


@contextmanager
def apart(event: str, **about: str) -> Iterator[None]:
    """Let what Redis refuses, or cannot do, about one slot or one request be logged, and keep nothing else waiting."""
    try:
        yield
    except (RegistryRefused, SlotUnavailable) as error:
        log.error(event, error=str(error), **about)
