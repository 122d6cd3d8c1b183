"""The kinds of Azure OpenAI: OpenAI's own, behind another host and another header. No I/O.

https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle: ``/openai/v1`` wants no api-version, the older
``/openai`` does.
"""

from dataclasses import replace

from lapse.providers.kinds.dialect import Dialect, by_name
from lapse.providers.kinds.kind import Kind
from lapse.providers.kinds.openai import OPENAI

# The answer to a token of another tenant is a 500, on every path, for as long as the credential stays.
DENIED = ("Unable to get resource information.",)

# Microsoft retired threads and assistants here on 2026-08-26, and documents their deletion still: whether a resource
# serves them, the probe tells.
_KINDS = frozenset({"thread", "assistant", "conversation", "file", "vector_store", "response", "container"})


def at_azure(kind: Kind) -> Kind:
    """Return a kind of OpenAI's as Azure serves it: older versions list files whole."""
    return replace(kind, denied=DENIED, sunsets={}, unpaged=kind.name == "file")


AZURE_DIALECT = Dialect(
    kinds=by_name(*(at_azure(kind) for kind in OPENAI if kind.name in _KINDS)),
    key_header="api-key",
    key_example="AZURE_OPENAI_API_KEY",
    example="https://RESOURCE.openai.azure.com/openai/v1",
    hosts=("azure.com", "azure.us", "azure.cn"),
    ends=(r"/openai/v1", r"/openai", r"/api/projects/[^/]+/openai/v1"),
    takes=frozenset({"api_version", "auth"}),
    versioned=r".*/openai",
    scopes={
        r"/api/projects/.*": "https://ai.azure.com/.default",
        r".*": "https://cognitiveservices.azure.com/.default",
    },
)
