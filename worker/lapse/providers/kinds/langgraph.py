"""The kinds of LangGraph's Agent Server. No I/O.

Observed of langgraph-api 0.16.7, which ``make test-servers`` runs: UUIDs, a bare 204 for a deletion, lists by search,
and {"detail": ...} for every refusal. Aegra 0.11, which serves the same API, confirms by {"status": "deleted"}, quotes
the id of what is not there, takes no ``select`` and lists at most 100 assistants at once.
"""

from lapse.providers.kinds.dialect import Dialect, by_name
from lapse.providers.kinds.kind import Kind

_CONFIRMATION = {"status": "deleted"}

LANGGRAPH_DIALECT = Dialect(
    kinds=by_name(
        Kind(
            name="thread",
            not_found=("Thread with ID {id} not found", "Thread {id} not found"),
            no_content=True,
            confirmation=_CONFIRMATION,
            id_field="thread_id",
            listable=True,
            search="/threads/search",
            page_size=1000,
            # A DELETE of a busy thread answers 204 at once, and the run works on without it.
            busy=frozenset({"busy"}),
            create={},
        ),
        Kind(
            name="assistant",
            not_found=("Assistant with ID {id} not found", "Assistant {id} not found"),
            absence="/versions",
            no_content=True,
            confirmation=_CONFIRMATION,
            id_field="assistant_id",
            listable=True,
            search="/assistants/search",
            page_size=1000,
            has_name=True,
            # The server makes one for every graph when it starts. Its DELETE is a 204 like any other, and takes the
            # graph from whoever runs it by name.
            system={"created_by": "system"},
        ),
    ),
    key_header="x-api-key",
    key_example="LANGSMITH_API_KEY",
    example="https://DEPLOYMENT.us.langgraph.app",
)
