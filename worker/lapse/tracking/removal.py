"""Deletes by an SDK's own calls, where a scope is waited for."""

from collections.abc import Callable
from typing import Any

from lapse.errors import ConfigError

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


def remove(client: Any, kind: str, id_: str) -> None:
    """Delete one object; the items of a conversation first, which would stay without it.

    Raises:
        Exception: whatever the SDK raises; it is not deleted, or nobody knows.

    """
    if kind == "conversation":
        for item in list(client.conversations.items.list(id_, limit=100)):  # a page hangs on the last item of another
            client.conversations.items.delete(item.id, conversation_id=id_)
    _call(client, kind)(id_)


async def remove_async(client: Any, kind: str, id_: str) -> None:
    """Delete one object by an asynchronous client; see ``remove``."""
    if kind == "conversation":
        for item in [one async for one in client.conversations.items.list(id_, limit=100)]:
            await client.conversations.items.delete(item.id, conversation_id=id_)
    await _call(client, kind)(id_)
