"""The kinds of Azure AI Foundry Agents, now called classic: the Assistants API, with a list of threads. No I/O.

Paths and bodies: https://learn.microsoft.com/rest/api/aifoundry/aiagents and the azure-ai-agents client. Nobody has
published the words for a missing object. Those of the API that it took over name the id; if they are others, the id
goes to quarantine, with the not_found line that recognises them.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from lapse.providers.kinds.azure import at_azure
from lapse.providers.kinds.dialect import Dialect, by_name
from lapse.providers.kinds.kind import Kind, Sunset
from lapse.providers.kinds.openai import OPENAI

# https://learn.microsoft.com/azure/foundry-classic/agents/concepts/threads-runs-messages
_SUNSET = date(2027, 3, 31)
_SUCCESSORS = {"thread": "conversation", "assistant": "conversation"}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "thread": {"listable": True, "probe": "/threads?limit=1"},
    "assistant": {},
    "file": {},
    "vector_store": {},
}


def _sunsets(kind: Kind) -> Mapping[str, Sunset]:
    successor = _SUCCESSORS.get(kind.name, kind.name)
    return {"services.ai.azure.com": Sunset(_SUNSET, f"{successor} (type azure-openai)")}


FOUNDRY_DIALECT = Dialect(
    kinds=by_name(
        *(
            replace(at_azure(kind), headers={}, sunsets=_sunsets(kind), **_KINDS[kind.name])
            for kind in OPENAI
            if kind.name in _KINDS
        )
    ),
    key_example="FOUNDRY_TOKEN",
    example="https://RESOURCE.services.ai.azure.com/api/projects/PROJECT",
    hosts=("azure.com", "azure.us", "azure.cn"),
    ends=(r"/api/projects/[^/]+",),
    takes=frozenset({"api_version", "auth"}),
    api_version="v1",
    scopes={r".*": "https://ai.azure.com/.default"},
)
