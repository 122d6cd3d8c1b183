"""Making many objects at once, which no provider offers: for tests, benchmarks and the demo. No I/O."""

from collections.abc import Callable
from typing import Any

from lapse.errors import ConfigError
from lapse.sandbox.dialects import langgraph
from lapse.sandbox.dialects.assistants import ASSISTANTS, THREADS
from lapse.sandbox.dialects.completions import COMPLETIONS, CONTAINERS, RESPONSES
from lapse.sandbox.dialects.conversations import CONVERSATIONS, add_items
from lapse.sandbox.dialects.files import FILES, VECTOR_STORES
from lapse.sandbox.state import DEFAULT_PROJECT, Json, Stored, World, now

OPENAI, LANGGRAPH = "openai", "langgraph"
KEYS = (
    "kind",
    "count",
    "ids",
    "project",
    "created_at",
    "metadata",
    "name",
    "items",
    "last_active_at",
    "file_ids",
    "tool_resources",
    "expires_after",
    "status",
    "background",
    "conversation",
)


def seed(world: World, dialect: str = OPENAI, **given: Any) -> list[str]:
    """Put objects into a project and return their ids in order of creation.

    Args:
        world: Where.
        dialect: How it speaks: a LangGraph thread that is ``status="busy"`` works until its run is cancelled.
        **given: ``kind``; ``count`` (1 unless said) or ``ids`` (these very ids); ``project``; ``created_at``
            (seconds since 1970); ``metadata`` and ``name`` of each; ``items`` (that many items in each
            conversation); and what a kind's own body has: ``last_active_at``, ``file_ids``, ``tool_resources``,
            ``expires_after``, ``status``, ``background``, ``conversation``.

    Raises:
        ConfigError: an unknown key, kind or project, or a count that is not one.

    """
    for key in given.keys() - set(KEYS):
        raise ConfigError(f"seed: unknown key '{key}': one of {', '.join(KEYS)}")
    kind, project = given.get("kind"), world.projects.get(given.get("project", DEFAULT_PROJECT))
    if project is None:
        raise ConfigError(f"seed: no project {given['project']!r}: one of {', '.join(world.projects)}")
    makers = _MAKERS if dialect != LANGGRAPH else _GRAPH_MAKERS
    if kind not in makers:
        raise ConfigError(f"seed: kind {kind!r} cannot be seeded: one of {', '.join(makers)}")
    ids, make = makers[kind]
    wanted: list[str] = list(given.get("ids") or ids(_count(given.get("count", 1))))
    created_at = int(given.get("created_at") or now())
    items = [{"type": "message", "role": "user", "content": "seeded"}] * _count(given.pop("items", 0))
    busy = dialect == LANGGRAPH and given.get("status") == "busy"
    if busy:  # as a thread is for as long as its run works
        given["status"] = None
    metadata = dict(given.get("metadata") or {})
    asked = {"model": "sandbox", "filename": given.get("name")} | given | {"metadata": metadata}
    made = {id_: make(id_, asked, created_at) for id_ in wanted}
    project.kept[kind] |= made
    if kind == CONVERSATIONS.kind:
        for stored in made.values():
            add_items(stored, items)
    if busy:
        runs = [langgraph.new_run(id_, langgraph.FOREVER) for id_ in wanted]
        project.kept["run"].update((run.body["run_id"], run) for run in runs)
    return wanted


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"seed: count: {value!r} is not a number of objects")
    return value


_SEEDED = (THREADS, ASSISTANTS, CONVERSATIONS, FILES, VECTOR_STORES, RESPONSES, CONTAINERS, COMPLETIONS)
_Makers = dict[str, tuple[Callable[[int], list[str]], Callable[[str, Json, int], Stored]]]
_MAKERS: _Makers = {each.kind: (each.ids, each.new) for each in _SEEDED}
_GRAPH_MAKERS: _Makers = {
    "thread": (langgraph.uuids, langgraph.new_thread),
    "assistant": (langgraph.uuids, langgraph.new_assistant),
}
