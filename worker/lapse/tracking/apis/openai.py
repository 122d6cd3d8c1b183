"""The rows of OpenAI's API, of Azure's and of Foundry's: read in openai 3.57 and azure-ai-agents 1.1."""

from lapse.tracking.apis.endpoints import Endpoint, Endpoints, Reference

_RUN = (Reference("thread", "thread_id"), Reference("assistant", "assistant_id"))
_BATCH = (Reference("file", "output_file_id"), Reference("file", "error_file_id"))
_STORES = (
    # A helper: its files are given, and the store comes with the thread or assistant.
    Reference(
        "vector_store",
        "tool_resources.file_search.vector_store_ids",
        given="tool_resources.file_search.vector_stores",
    ),
)
_THREAD_STORES = (
    Reference(
        "vector_store",
        "tool_resources.file_search.vector_store_ids",
        given="thread.tool_resources.file_search.vector_stores",
    ),
)
_RESPONSE_EVENTS = {
    f"response.{event}": ("response", "id")
    for event in ("created", "queued", "in_progress", "completed", "incomplete", "failed")
}
_RESPONSE = {
    "answer": (Reference("conversation", "conversation"),),
    "makes": (Reference("container", "output[].container_id"),),
    "events": _RESPONSE_EVENTS,
}
_RUN_EVENTS = {"thread.created": ("", "id"), "thread.run.created": ("", "thread_id")}


def _crud(kind: str, path: str, parameter: str, deleted: str, **create: object) -> tuple[Endpoint, ...]:
    one = f"{path}/{{{parameter}}}"
    return (
        Endpoint("POST", path, creates=kind, **create),  # type: ignore[arg-type]
        Endpoint("GET", one),
        Endpoint("POST", one),
        Endpoint("DELETE", one, deletes=True, confirmed_by=deleted),
    )


OPENAI_ENDPOINTS = Endpoints(
    (
        *_crud("thread", "/threads", "thread_id", "thread.deleted", makes=_STORES, stamps=True),
        *_crud("assistant", "/assistants", "assistant_id", "assistant.deleted", makes=_STORES, stamps=True),
        *_crud("conversation", "/conversations", "conversation_id", "conversation.deleted", stamps=True),
        *_crud("file", "/files", "file_id", "file", reads_body=False),
        *_crud("vector_store", "/vector_stores", "vector_store_id", "vector_store.deleted", stamps=True),
        *_crud("container", "/containers", "container_id", "container.deleted"),
        *_crud(
            "chat_completion",
            "/chat/completions",
            "completion_id",
            "chat.completion.deleted",
            store=False,
            stamps=True,
            events={"": ("", "id")},
        ),
        Endpoint("POST", "/responses", creates="response", store=True, stamps=True, **_RESPONSE),  # type: ignore[arg-type]
        Endpoint("GET", "/responses/{response_id}", makes=_RESPONSE["makes"], events=_RESPONSE_EVENTS),  # type: ignore[arg-type]
        Endpoint("DELETE", "/responses/{response_id}", deletes=True, confirmed_by="response"),
        Endpoint("POST", "/responses/{response_id}/cancel"),
        Endpoint("GET", "/responses/{response_id}/input_items"),
        Endpoint("POST", "/responses/compact"),
        Endpoint("POST", "/responses/input_tokens"),
        Endpoint(
            "POST",
            "/threads/runs",
            creates="thread",
            id_field="thread_id",
            answer=_RUN,
            makes=_THREAD_STORES,
            events=_RUN_EVENTS,
        ),
        Endpoint("GET", "/threads/{thread_id}/messages"),
        Endpoint("POST", "/threads/{thread_id}/messages"),
        Endpoint("GET", "/threads/{thread_id}/messages/{message_id}"),
        Endpoint("POST", "/threads/{thread_id}/messages/{message_id}"),
        Endpoint("DELETE", "/threads/{thread_id}/messages/{message_id}"),
        Endpoint("GET", "/threads/{thread_id}/runs", reads_body=False),
        Endpoint("POST", "/threads/{thread_id}/runs", answer=_RUN, events=_RUN_EVENTS),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}", answer=_RUN),
        Endpoint("POST", "/threads/{thread_id}/runs/{run_id}", answer=_RUN),
        Endpoint("POST", "/threads/{thread_id}/runs/{run_id}/cancel"),
        Endpoint("POST", "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs"),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}/steps"),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}/steps/{step_id}"),
        Endpoint("GET", "/conversations/{conversation_id}/items"),
        Endpoint("POST", "/conversations/{conversation_id}/items"),
        Endpoint("GET", "/conversations/{conversation_id}/items/{item_id}"),
        Endpoint("DELETE", "/conversations/{conversation_id}/items/{item_id}"),
        Endpoint("GET", "/files/{file_id}/content"),
        Endpoint("POST", "/uploads/{upload_id}/complete", creates="file", id_field="file.id"),
        Endpoint("POST", "/batches", makes=_BATCH),
        Endpoint("GET", "/batches/{batch_id}", makes=_BATCH),
        Endpoint("POST", "/batches/{batch_id}/cancel", makes=_BATCH),
        Endpoint("POST", "/fine_tuning/jobs"),
        Endpoint("POST", "/vector_stores/{vector_store_id}/files"),
        Endpoint("GET", "/vector_stores/{vector_store_id}/files"),
        Endpoint("GET", "/vector_stores/{vector_store_id}/files/{file_id}"),
        Endpoint("POST", "/vector_stores/{vector_store_id}/files/{file_id}"),
        Endpoint("GET", "/vector_stores/{vector_store_id}/files/{file_id}/content"),
        Endpoint("DELETE", "/vector_stores/{vector_store_id}/files/{file_id}"),
        Endpoint("POST", "/vector_stores/{vector_store_id}/file_batches"),
        Endpoint("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}"),
        Endpoint("POST", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel"),
        Endpoint("GET", "/vector_stores/{vector_store_id}/file_batches/{batch_id}/files"),
        Endpoint("POST", "/vector_stores/{vector_store_id}/search"),
        # Files inside a container have ids of their own.
        Endpoint("GET", "/containers/{container_id}/files"),
        Endpoint("POST", "/containers/{container_id}/files"),
        Endpoint("GET", "/containers/{container_id}/files/{container_file_id}"),
        Endpoint("GET", "/containers/{container_id}/files/{container_file_id}/content"),
        Endpoint("DELETE", "/containers/{container_id}/files/{container_file_id}"),
        Endpoint("GET", "/chat/completions/{completion_id}/messages"),
    ),
    parameters={
        "thread_id": "thread",
        "assistant_id": "assistant",
        "conversation_id": "conversation",
        "file_id": "file",
        "vector_store_id": "vector_store",
        "container_id": "container",
        "completion_id": "chat_completion",
        "response_id": "response",
    },
    fields={
        "assistant_id": "assistant",
        "thread_id": "thread",
        "conversation": "conversation",
        "previous_response_id": "response",
        "file_id": "file",
        "file_ids": "file",
        "input_file_id": "file",
        "training_file": "file",
        "validation_file": "file",
        "vector_store_id": "vector_store",
        "vector_store_ids": "vector_store",
        "container": "container",
        "container_id": "container",
    },
    reasons={
        "/agents": "no kind of lapse's",
        "/audio": "nothing is kept, but for voices: no kind of lapse's",
        "/chatkit": "its threads are listed and deleted elsewhere: no kind of lapse's",
        "/completions": "nothing is kept",
        "/content_provenance_checks": "nothing is kept",
        "/decisions": "nothing is kept",
        "/embeddings": "nothing is kept",
        "/evals": "no kind of lapse's",
        "/fine_tuning": "models and jobs: no kind of lapse's",
        "/images": "nothing is kept",
        "/live": "no kind of lapse's",
        "/models": "no kind of lapse's",
        "/moderations": "nothing is kept",
        "/organization": "the account itself",
        "/projects": "the account itself",
        "/realtime": "nothing that can be deleted",
        "/skills": "no kind of lapse's",
        "/uploads": "ends by itself after an hour; its file is made by /complete",
        "/vaults": "no kind of lapse's",
        "/videos": "no kind of lapse's",
        "/webhook_endpoints": "no kind of lapse's",
    },
)
