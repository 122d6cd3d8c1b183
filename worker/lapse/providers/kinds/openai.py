"""The kinds of OpenAI's API and of servers compatible with it. No I/O."""

from datetime import date

from lapse.providers.kinds.dialect import Dialect, by_name
from lapse.providers.kinds.kind import Child, Kind, Runs, Sunset

# https://platform.openai.com/docs/deprecations: announced 2025-08-26, shut down a year later.
_ASSISTANTS_SUNSET = {
    "api.openai.com": Sunset(date(2026, 8, 26), "conversation"),
}
_ASSISTANTS_BETA = {"OpenAI-Beta": "assistants=v2"}

# "Delete a thread" says nothing of its tool_resources, and the link is lost with it (API reference, threads).
_TOOL_RESOURCES = (
    Child("vector_store", field=("tool_resources", "file_search", "vector_store_ids")),
    Child("file", field=("tool_resources", "code_interpreter", "file_ids")),
)

CONVERSATION_ITEM = Kind(
    name="conversation_item",
    path="/items",
    deleted_object="conversation",  # the answer to deleting an item is the conversation it was in
    not_found=("Item with id {id} not found", "No item found with id {id}"),
    listable=True,
    has_metadata=False,
)

OPENAI = (
    Kind(
        name="thread",
        not_found=("No thread found with id {id}",),
        headers=_ASSISTANTS_BETA,
        # Threads have no list; whoever serves threads serves assistants beside them.
        probe="/assistants?limit=1",
        create={},
        runs=Runs("/runs", frozenset({"queued", "in_progress", "requires_action", "cancelling"})),
        cancel="/cancel",
        children=_TOOL_RESOURCES,
        longest_run=3600,  # "runs expire ten minutes after creation" (assistants/deep-dive)
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="assistant",
        not_found=("No assistant found with id {id}",),
        headers=_ASSISTANTS_BETA,
        listable=True,
        probe="/assistants?limit=1",
        has_name=True,
        children=_TOOL_RESOURCES,
        sunsets=_ASSISTANTS_SUNSET,
    ),
    Kind(
        name="conversation",
        not_found=("Conversation with id {id} not found",),
        # "Items in the conversation will not be deleted" (API reference, conversations/delete).
        child=CONVERSATION_ITEM,
        children=(Child("response", users=True),),
        create={},
    ),
    Kind(
        name="file",
        deleted_object="file",  # not "file.deleted" (API reference, files/delete)
        # github.com/openai/openai-ruby/issues/240
        not_found=("No such File object: {id}",),
        listable=True,
        probe="/files?limit=1",
        page_size=10_000,
        has_name=True,
        name_field="filename",
        has_metadata=False,
    ),
    Kind(
        name="vector_store",
        # Clients recognise it by these words (openai-php applications, WordPress plugins), with the id behind them.
        not_found=("No vector store found with id {id}",),
        headers=_ASSISTANTS_BETA,
        listable=True,
        probe="/vector_stores?limit=1",
        # Should all else fail, the provider ends it by itself.
        create={"name": "lapse canary", "expires_after": {"anchor": "last_active_at", "days": 1}},
        has_name=True,
        active_field="last_active_at",
        # "This will remove the file from the vector store but the file itself will not be deleted" (reference).
        children=(Child("file", path="/files"),),
    ),
    Kind(
        name="response",
        deleted_object="response",  # not "response.deleted" (API reference, responses/delete)
        # github.com/BerriAI/litellm/issues/34422: the answer to a DELETE, passed on
        not_found=("Response with id {id} not found",),
        busy=frozenset({"queued", "in_progress"}),
        cancel="/cancel",
        longest_run=86_400,  # a background response's polling data is kept for minutes; no limit is documented
        native_expiry=True,  # "saved for 30 days by default" (guides/conversation-state)
    ),
    Kind(
        name="container",
        # github.com/BerriAI/litellm/pull/39464
        not_found=("Container with id {id} not found",),
        listable=True,
        probe="/containers?limit=1",
        has_name=True,
        has_metadata=False,
        active_field="last_active_at",
        native_expiry=True,  # after 20 idle minutes (guides/tools-code-interpreter)
        # "Any container operation, like retrieving the container, ... will refresh last_active_at" (same guide)
        witness=False,
    ),
    Kind(
        name="chat_completion",
        path="/chat/completions",
        deleted_object="chat.completion.deleted",
        # No source shows its words: an unknown 404 goes to quarantine, with the not_found line to add.
        not_found=(),
        listable=True,
        probe="/chat/completions?limit=1",
        created_field="created",
        native_expiry=True,
    ),
)

OPENAI_DIALECT = Dialect(
    kinds=by_name(*OPENAI),
    key_example="OPENAI_API_KEY",
    base_url="https://api.openai.com/v1",
    example="https://api.openai.com/v1",
    takes=frozenset({"organization", "project"}),
)
