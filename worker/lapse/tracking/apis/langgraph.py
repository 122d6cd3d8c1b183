"""The rows of LangGraph's Agent Server: read in langgraph_sdk 0.4.14."""

from lapse.tracking.apis.endpoints import Endpoint, Endpoints, Reference

_MADE = "if_not_exists=create"
_THERE = "if_exists=do_nothing"
_RUN = (Reference("thread", "thread_id"), Reference("assistant", "assistant_id"))

LANGGRAPH_ENDPOINTS = Endpoints(
    (
        Endpoint("POST", "/threads", creates="thread", found=_THERE, id_field="thread_id", stamps=True),
        Endpoint("POST", "/threads/{thread_id}/copy", creates="thread", id_field="thread_id"),
        Endpoint("GET", "/threads/{thread_id}", id_field="thread_id"),
        Endpoint("PATCH", "/threads/{thread_id}", id_field="thread_id"),
        Endpoint("DELETE", "/threads/{thread_id}", deletes=True),
        Endpoint("GET", "/threads/{thread_id}/state"),
        Endpoint("POST", "/threads/{thread_id}/state"),
        Endpoint("POST", "/threads/{thread_id}/state/checkpoint"),
        Endpoint("GET", "/threads/{thread_id}/state/{checkpoint_id}"),
        Endpoint("POST", "/threads/{thread_id}/history"),
        Endpoint("GET", "/threads/{thread_id}/stream"),
        Endpoint("GET", "/threads/{thread_id}/runs"),
        Endpoint("POST", "/threads/{thread_id}/runs", answer=_RUN, makes_path=_MADE),
        Endpoint("POST", "/threads/{thread_id}/runs/stream", makes_path=_MADE),
        Endpoint("POST", "/threads/{thread_id}/runs/wait", makes_path=_MADE),
        Endpoint("POST", "/runs", answer=_RUN[1:], makes=(Reference("thread", "thread_id", "on_completion=keep"),)),
        Endpoint("POST", "/threads/{thread_id}/runs/crons"),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}"),
        Endpoint("DELETE", "/threads/{thread_id}/runs/{run_id}"),
        Endpoint("POST", "/threads/{thread_id}/runs/{run_id}/cancel"),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}/join"),
        Endpoint("GET", "/threads/{thread_id}/runs/{run_id}/stream"),
        Endpoint("POST", "/assistants", creates="assistant", found=_THERE, id_field="assistant_id", stamps=True),
        Endpoint("GET", "/assistants/{assistant_id}", id_field="assistant_id"),
        Endpoint("PATCH", "/assistants/{assistant_id}", id_field="assistant_id"),
        Endpoint("DELETE", "/assistants/{assistant_id}", deletes=True),
        Endpoint("GET", "/assistants/{assistant_id}/graph"),
        Endpoint("GET", "/assistants/{assistant_id}/schemas"),
        Endpoint("GET", "/assistants/{assistant_id}/subgraphs"),
        Endpoint("POST", "/assistants/{assistant_id}/latest"),
        Endpoint("POST", "/assistants/{assistant_id}/versions"),
    ),
    parameters={"thread_id": "thread", "assistant_id": "assistant"},
    fields={"assistant_id": "assistant", "thread_id": "thread"},
    reasons={
        "/assistants/search": "changes nothing",
        "/assistants/count": "changes nothing",
        "/threads/search": "changes nothing",
        "/threads/count": "changes nothing",
        "/threads/prune": "says no ids of what it pruned",
        "/runs": "runs and schedules end with their thread; a stateless one that is streamed says no thread",
        "/store": "no kind of lapse's",
    },
)
