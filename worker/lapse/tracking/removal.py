"""Deletes by an SDK's own calls, where a scope is waited for."""

from collections.abc import Callable
from typing import Any

from lapse.errors import ConfigError
from lapse.registry.pools.steps import Steps

_CALLS = {
    "thread": "beta.threads.delete",
    "assistant": "beta.assistants.delete",
    "conversation": "conversations.delete",
    "file": "files.delete",
    "vector_store": "vector_stores.delete",
    "response": "responses.delete",
    "container": "containers.delete",
    "chat_completion": "chat.completions.delete",
}
"""Kind -> the call of OpenAI's client; LangGraph's are ``threads.delete`` and ``assistants.delete``."""


def _call(client: Any, kind: str) -> Callable[[str], Any]:
    openai = hasattr(client, "with_options")
    found = client
    for step in _CALLS[kind].split(".") if openai else (f"{kind}s", "delete"):
        found = getattr(found, step, None)
    if found is None:
        raise ConfigError(f"this client deletes no {kind}")
    call: Callable[[str], Any] = found
    return call


def remove(client: Any, kind: str, id_: str) -> Steps[None]:
    """Delete one object; the items of a conversation first, which would stay without it.

    Raises:
        Exception: whatever the SDK raises; it is not deleted, or nobody knows.

    """
    if kind == "conversation":
        items = client.conversations.items
        for item in (yield _listed(items.list(id_, limit=100))):
            yield items.delete(item.id, conversation_id=id_)
    yield _call(client, kind)(id_)


def _listed(pages: Any) -> Any:
    """Return all items before one goes: a page hangs on the last item of another."""
    return _gathered(pages) if hasattr(pages, "__aiter__") else list(pages)


async def _gathered(pages: Any) -> list[Any]:
    return [one async for one in pages]
