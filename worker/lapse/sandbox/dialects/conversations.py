"""The Conversations shape: conversations and the items in them. There is no list of conversations.

Texts that no public source shows are marked "assumed".
"""

from typing import Any

from lapse.sandbox.bodies import read, refuse
from lapse.sandbox.paging import Window, page, window
from lapse.sandbox.state import Project, Stored, hex_ids, now
from lapse.sandbox.wire import Json, Request, Response, answer, refusal

MOST_ITEMS = 20
ITEM_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
}


def unknown_conversation(id_: str) -> Response:
    """Return the provider's answer to a conversation id it does not know."""
    return refusal(404, f"Conversation with id '{id_}' not found.", "unknown")


def unknown_item(id_: str) -> Response:
    """Return the answer to an item id its conversation does not have (assumed, after the conversation's)."""
    return refusal(404, f"Item with id '{id_}' not found.", "unknown")


def new_conversation(id_: str, metadata: Json | None = None, created_at: int | None = None) -> Stored:
    """Return a conversation as ``POST /conversations`` makes it."""
    made = now() if created_at is None else created_at
    return Stored({"id": id_, "object": "conversation", "created_at": made, "metadata": metadata or {}})


def add_items(stored: Stored, given: list[Json]) -> list[Json]:
    """Put items into a conversation and return them as the API shows them."""
    added = [_item(each) for each in given]
    stored.children |= {each["id"]: each for each in added}
    return added


def create_conversation(request: Request, project: Project, _ids: tuple[str, ...]) -> Response:
    """``POST /conversations``, with up to 20 items."""
    given = read(request)
    items = _items(given)
    [id_] = hex_ids("conv_", 1)
    stored = new_conversation(id_, given.get("metadata"))
    add_items(stored, items)
    project.kept["conversation"][id_] = stored
    return answer(stored.body, "created", executed=True)


def read_conversation(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /conversations/{id}``."""
    stored = project.kept["conversation"].get(ids[0])
    return unknown_conversation(ids[0]) if stored is None else answer(stored.body, "read")


def update_conversation(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /conversations/{id}``: metadata, which replaces what was there."""
    given = read(request)
    stored = project.kept["conversation"].get(ids[0])
    if stored is None:
        return unknown_conversation(ids[0])
    if "metadata" not in given:
        raise refuse("Missing required parameter: 'metadata'.", "metadata", "missing_required_parameter")
    stored.body["metadata"] = given["metadata"] or {}
    return answer(stored.body, "updated", executed=True)


def delete_conversation(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /conversations/{id}``: its items are not deleted, as the provider documents."""
    stored = project.kept["conversation"].pop(ids[0], None)
    if stored is None:
        return unknown_conversation(ids[0])
    project.leftover |= stored.children
    return answer({"id": ids[0], "object": "conversation.deleted", "deleted": True}, "deleted", executed=True)


def create_items(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``POST /conversations/{id}/items``: up to 20; answers with a list of those added."""
    given = read(request)
    stored = project.kept["conversation"].get(ids[0])
    if stored is None:
        return unknown_conversation(ids[0])
    if not given.get("items"):
        raise refuse("Missing required parameter: 'items'.", "items", "missing_required_parameter")
    added = add_items(stored, _items(given))
    body = {
        "object": "list",
        "data": added,
        "first_id": added[0]["id"],
        "last_id": added[-1]["id"],
        "has_more": False,
    }
    return answer(body, "created", executed=True)


def list_items(request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /conversations/{id}/items``."""
    stored = project.kept["conversation"].get(ids[0])
    if stored is None:
        return unknown_conversation(ids[0])
    asked = window(request)
    return (
        page(stored.children, stored.children.__getitem__, asked, unknown_item) if isinstance(asked, Window) else asked
    )


def read_item(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``GET /conversations/{id}/items/{item}``."""
    stored = project.kept["conversation"].get(ids[0])
    if stored is None:
        return unknown_conversation(ids[0])
    item = stored.children.get(ids[1])
    return unknown_item(ids[1]) if item is None else answer(item, "read")


def delete_item(_request: Request, project: Project, ids: tuple[str, ...]) -> Response:
    """``DELETE /conversations/{id}/items/{item}``: answers with the conversation, no deleted object."""
    stored = project.kept["conversation"].get(ids[0])
    if stored is None:
        return unknown_conversation(ids[0])
    if stored.children.pop(ids[1], None) is None:
        return unknown_item(ids[1])
    return answer(stored.body, "deleted", executed=True)


def _items(given: Json) -> list[Json]:
    items: Any = given.get("items") or []
    if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
        raise refuse("Invalid type for 'items': expected an array of objects.", "items", "invalid_type")
    if len(items) > MOST_ITEMS:
        message = (
            f"Invalid 'items': array too long. Expected an array with maximum length {MOST_ITEMS}, "
            f"but got an array with length {len(items)} instead."
        )
        raise refuse(message, "items", "array_above_max_length")
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
