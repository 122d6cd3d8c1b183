"""Making many objects at once, which no provider offers: for tests, benchmarks and the demo. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lapse.errors import ConfigError
from lapse.sandbox.dialects import langgraph
from lapse.sandbox.dialects.assistants import new_assistant, new_thread
from lapse.sandbox.dialects.completions import new_completion, new_container, new_response
from lapse.sandbox.dialects.conversations import add_items, new_conversation
from lapse.sandbox.dialects.files import new_file, new_vector_store
from lapse.sandbox.state import DEFAULT_PROJECT, Stored, World, alnum_ids, hex_ids, now
from lapse.sandbox.wire import Json

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
    prefix, ids, make = makers[kind]
    wanted: Sequence[str] = given.get("ids") or ids(prefix, _count(given.get("count", 1)))
    created_at = int(given.get("created_at") or now())
    project.kept[kind].update((id_, make(id_, given, created_at)) for id_ in wanted)
    if dialect == LANGGRAPH and given.get("status") == "busy":
        runs = [langgraph.new_run(id_, langgraph.FOREVER) for id_ in wanted]
        project.kept["run"].update((run.body["run_id"], run) for run in runs)
    return list(wanted)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"seed: count: {value!r} is not a number of objects")
    return value


def _thread(id_: str, given: Mapping[str, Any], created_at: int) -> Stored:
    return new_thread(id_, dict(given.get("metadata") or {}), given.get("tool_resources"), created_at=created_at)


def _assistant(id_: str, given: Mapping[str, Any], created_at: int) -> Stored:
    asked = {
        "model": "sandbox",
        "name": given.get("name"),
        "metadata": dict(given.get("metadata") or {}),
        "tool_resources": given.get("tool_resources"),
    }
    return new_assistant(id_, asked, created_at)


def _conversation(id_: str, given: Mapping[str, Any], created_at: int) -> Stored:
    stored = new_conversation(id_, dict(given.get("metadata") or {}), created_at)
    add_items(stored, [{"type": "message", "role": "user", "content": "seeded"}] * _count(given.get("items", 0)))
    return stored


def _file(id_: str, given: Mapping[str, Any], created_at: int) -> Stored:
    return new_file(id_, {"filename": given.get("name")}, created_at)


def _own(make: Callable[[str, Json, int], Stored]) -> Callable[[str, Mapping[str, Any], int], Stored]:
    return lambda id_, given, created_at: make(id_, dict(given), created_at)


def _graph_thread(id_: str, given: Mapping[str, Any], created_at: int) -> Stored:
    # That it is busy is what its run says, for as long as that works.
    status = given.get("status")
    return langgraph.new_thread(id_, {**given, "status": None if status == "busy" else status}, created_at)


Makers = dict[str, tuple[str, Callable[[str, int], list[str]], Callable[[str, Mapping[str, Any], int], Stored]]]

_GRAPH_MAKERS: Makers = {
    "thread": ("", langgraph.uuids, _graph_thread),
    "assistant": ("", langgraph.uuids, langgraph.new_assistant),
}
_MAKERS: Makers = {
    "thread": ("thread_", alnum_ids, _thread),
    "assistant": ("asst_", alnum_ids, _assistant),
    "conversation": ("conv_", hex_ids, _conversation),
    "file": ("file-", partial(alnum_ids, length=22), _file),
    "vector_store": ("vs_", partial(hex_ids, length=32), _own(new_vector_store)),
    "response": ("resp_", hex_ids, _own(new_response)),
    "container": ("cntr_", hex_ids, _own(new_container)),
    "chat_completion": ("chatcmpl-", partial(alnum_ids, length=29), _own(new_completion)),
}
