"""What lapse knows of each kind of object at each type of provider: a table. No I/O.

A new kind is one entry in a provider type's module and its tests; a new type is one module. The facts come from the
providers' API references and published error bodies; what a provider neither documents nor was seen to answer is not
in the table.
"""

from collections.abc import Mapping
from difflib import get_close_matches

from lapse.errors import ConfigError
from lapse.providers.kinds.azure import AZURE_DIALECT
from lapse.providers.kinds.dialect import Dialect
from lapse.providers.kinds.foundry import FOUNDRY_DIALECT
from lapse.providers.kinds.kind import Child, Kind, Sunset
from lapse.providers.kinds.langgraph import LANGGRAPH_DIALECT
from lapse.providers.kinds.openai import CONVERSATION_ITEM, OPENAI_DIALECT

__all__ = ["CONVERSATION_ITEM", "DIALECTS", "KINDS", "Child", "Dialect", "Kind", "Sunset", "singular"]

DIALECTS: Mapping[str, Dialect] = {
    "openai": OPENAI_DIALECT,
    "azure-openai": AZURE_DIALECT,
    "foundry": FOUNDRY_DIALECT,
    "langgraph": LANGGRAPH_DIALECT,
}
"""Provider type -> how it is talked to."""

KINDS: Mapping[str, Mapping[str, Kind]] = {name: dialect.kinds for name, dialect in DIALECTS.items()}
"""Provider type -> kind name -> kind."""

_SINGULARS = {
    word: kind.name for kinds in KINDS.values() for kind in kinds.values() for word in (kind.name, kind.plural)
}


def singular(text: str) -> str:
    """Return the name of the kind that a person wrote in singular or plural.

    Raises:
        ConfigError: no provider type has such a kind; the text says which there are.

    """
    word = text.strip().lower().replace("-", "_")
    if word in _SINGULARS:
        return _SINGULARS[word]
    close = get_close_matches(word, _SINGULARS, n=1)
    hint = (
        f"did you mean {_SINGULARS[close[0]]!r}?"
        if close
        else f"there are {', '.join(sorted(set(_SINGULARS.values())))}"
    )
    raise ConfigError(f"kind {text!r} is not known: {hint}")
