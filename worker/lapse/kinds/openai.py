"""The kinds of OpenAI's API and of servers compatible with it. No I/O."""

from datetime import date

from lapse.kinds.kind import Kind, Sunset

# https://platform.openai.com/docs/deprecations: announced 2025-08-26, shut down a year later.
_ASSISTANTS_SUNSET = {
    "api.openai.com": Sunset(date(2026, 8, 26), "conversation"),
}
_ASSISTANTS_BETA = {"OpenAI-Beta": "assistants=v2"}

CONVERSATION_ITEM = Kind(
    name="conversation_item",
    plural="conversation_items",
    path="/items",
    deleted_object="conversation",  # the answer to deleting an item is the conversation it was in
    not_found=("Item with id {id} not found", "No item found with id {id}"),
    listable=True,
    has_metadata=False,
)

OPENAI = (
    Kind(
        name="thread",
        plural="threads",
        path="/threads",
        deleted_object="thread.deleted",
        not_found=("No thread found with id {id}",),
        headers=_ASSISTANTS_BETA,
        # Threads have no list; whoever serves threads serves assistants beside them.
        probe="/assistants?limit=1",
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="assistant",
        plural="assistants",
        path="/assistants",
        deleted_object="assistant.deleted",
        not_found=("No assistant found with id {id}",),
        headers=_ASSISTANTS_BETA,
        listable=True,
        probe="/assistants?limit=1",
        has_name=True,
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="conversation",
        plural="conversations",
        path="/conversations",
        deleted_object="conversation.deleted",
        not_found=("Conversation with id {id} not found",),
        # "Items in the conversation will not be deleted" (API reference, conversations/delete).
        child=CONVERSATION_ITEM,
    ),
)
