"""The kinds an application may name, in singular and plural: ``lapse.providers.kinds`` is the worker's. No I/O."""

from collections.abc import Collection

from lapse.errors import UnknownKind
from lapse.registry import keys

PLURALS = {
    "assistant": "assistants",
    "chat_completion": "chat_completions",
    "container": "containers",
    "conversation": "conversations",
    "file": "files",
    "response": "responses",
    "thread": "threads",
    "vector_store": "vector_stores",
}
"""Kind -> how people and URLs write several of them. A test compares it with the kinds."""

_SINGULARS = {word: name for name, plural in PLURALS.items() for word in (name, plural)}


def singular(given: object, published: Collection[str] = ()) -> str:
    """Return the name of the kind that an application means.

    Under another name a hold would protect nothing: no worker looks there.

    Args:
        given: A kind, or its plural.
        published: Kinds that a worker, newer than this client perhaps, said that it knows.

    Raises:
        InvalidResource: no name at all.
        UnknownKind: no kind of this client's, and none that a worker published.

    """
    known = _SINGULARS.get(given) if isinstance(given, str) else None
    if known:
        return known
    word = keys.name(given, "kind")
    plain = word.lower().replace("-", "_")
    if plain in _SINGULARS:
        return _SINGULARS[plain]
    if word in published:
        return word
    raise UnknownKind(f"kind {word!r} is not known: {_hint(plain, published)}")


def _hint(word: str, published: Collection[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only a wrong name needs it

    kinds = sorted({*PLURALS, *published})
    close = get_close_matches(word, [*_SINGULARS, *published], n=1)
    if not close:
        return f"there are {', '.join(kinds)}"
    return f"did you mean {_SINGULARS.get(close[0], close[0])!r}?"
