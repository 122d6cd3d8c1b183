"""The Conversations shape: conversations and the items in them. There is no list of conversations.

Texts that no public source shows are marked "assumed".
"""

from functools import partial
from typing import Any

from lapse.sandbox.bodies import hold_to, missing, mistyped, read
from lapse.sandbox.dialects.collections import Collection, Inside
from lapse.sandbox.paging import listed
from lapse.sandbox.state import Json, Project, Stored, hex_ids
from lapse.sandbox.wire import ApiRequest, ApiResponse, answer

MOST_ITEMS = 20
ITEM_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
}


def new_conversation(id_: str, given: Json, created_at: int) -> Stored:
    """Return a conversation as ``POST /conversations`` makes it, with up to 20 items."""
    metadata = given.get("metadata") or {}
    stored = Stored({"id": id_, "object": "conversation", "created_at": created_at, "metadata": metadata})
    add_items(stored, _items(given))
    return stored


def add_items(stored: Stored, given: list[Json]) -> list[Json]:
    """Put items into a conversation and return them as the API shows them."""
    added = [_item(each) for each in given]
    stored.children |= {each["id"]: each for each in added}
    return added


def _leave_items(project: Project, stored: Stored) -> None:
    """Keep the items of a deleted conversation: they are not deleted with it, as the provider documents."""
    project.leftover |= stored.children


CONVERSATIONS = Collection(
    "conversation",
    "Conversation with id '{id}' not found.",
    "conversation.deleted",
    partial(hex_ids, "conv_"),
    new_conversation,
    leaves=_leave_items,
)
# Its unknown id is assumed, after the conversation's. A DELETE is answered with the conversation.
ITEMS = Inside(CONVERSATIONS, "conversation_item", "Item with id '{id}' not found.")


def update_conversation(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /conversations/{id}``: metadata, which replaces what was there."""
    given = read(request)
    stored = CONVERSATIONS.find(project, ids[0])
    if "metadata" not in given:
        raise missing("metadata")
    stored.body["metadata"] = given["metadata"] or {}
    return answer(stored.body, "updated", executed=True)


def create_items(request: ApiRequest, project: Project, ids: tuple[str, ...]) -> ApiResponse:
    """``POST /conversations/{id}/items``: up to 20; answers with a list of those added."""
    given = read(request)
    stored = CONVERSATIONS.find(project, ids[0])
    if not given.get("items"):
        raise missing("items")
    return answer(listed(add_items(stored, _items(given)), has_more=False), "created", executed=True)


def _items(given: Json) -> list[Json]:
    items: Any = given.get("items") or []
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise mistyped("items", "an array of objects")
    hold_to(MOST_ITEMS, items, "items", "array ")
    return items


def _item(given: Json) -> Json:
    type_ = given.get("type", "message")
    [id_] = hex_ids(ITEM_PREFIXES.get(type_, "item_"), 1)
    made = {"id": id_, "type": type_, "status": "completed"} | {key: each for key, each in given.items() if key != "id"}
    if type_ == "message" and isinstance(content := given.get("content"), str):
        made["content"] = [_text(given.get("role"), content)]
    return made


def _text(role: object, text: str) -> Json:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}
