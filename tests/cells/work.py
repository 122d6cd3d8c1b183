"""What a process is at when it dies: what there is to delete, and how it is swept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lapse.policy import Orphan
from lapse.registry.model import Partition
from support.world import World

LONG_AGO = 1_600_000_000
AGED = {"created_at": LONG_AGO, "last_active_at": LONG_AGO}


@dataclass(frozen=True)
class Work:
    """One kind of work.

    ``kind`` is that of the first object that a DELETE of this work is about, or of its parent. ``seed`` returns its id.
    """

    kind: str
    seed: Callable[[World], str]
    rule: Mapping[str, Any]

    async def sweep(self, world: World) -> None:
        """Sweep once."""
        await (world.orphans if "orphan" in self.rule else world.sweep)(**self.rule)


def thread(world: World) -> str:
    """Make a due thread, and one that lives."""
    world.seed(1, days=1)
    return world.seed(1)[0]


def thread_with_file(world: World) -> str:
    """Make a due thread whose file goes first, and one of each that lives."""
    world.seed(1, days=1)
    world.seed(1, kind="file", days=1)
    (file,) = world.sandbox.seed("file", 1)
    (parent,) = world.sandbox.seed("thread", 1, tool_resources={"code_interpreter": {"file_ids": [file]}})
    world.registry.register("file", file, "chat")
    world.registry.register("thread", parent, "chat", uses=[("file", file)], **AGED)
    return file


def conversation(world: World) -> str:
    """Make a due conversation with items, and one that lives."""
    world.seed(1, kind="conversation", days=1)
    (id_,) = world.sandbox.seed("conversation", 1, items=3)
    world.registry.register("conversation", id_, "chat", **AGED)
    return id_


def orphan(world: World) -> str:
    """Make an assistant that nothing uses, and one that is used."""
    world.long_ago()
    (used,) = world.seed(1, kind="assistant", policy="chat")
    world.registry.register("thread", "thread_that_uses", "other", uses=[("assistant", used)])
    return world.seed(1, kind="assistant", policy="chat")[0]


def kept(kind: str, **rule: Any) -> dict[str, Any]:
    return {"partition": Partition("openai", kind, "chat"), **rule}


ORPHAN = Orphan(min_age=0.001, seen=1, max_share=None, uses_stated=True)
WORK = {
    "an object": Work("thread", thread, kept("thread")),
    "a child": Work("file", thread_with_file, kept("thread", cascade={"file": "delete"}, digest="digest00000c")),
    "items": Work("conversation", conversation, kept("conversation", digest="digest00000i")),
    "an orphan": Work(
        "assistant", orphan, kept("assistant", ttl=None, anchor=None, orphan=ORPHAN, digest="digest00000a")
    ),
}
