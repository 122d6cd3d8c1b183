"""The names of kinds that an application may use."""

import pytest

from lapse.errors import InvalidResource, UnknownKind
from lapse.providers.kinds import KINDS
from lapse.registry.kind_names import PLURALS, singular


def test_the_table_is_that_of_the_kinds() -> None:
    assert {kind.name: kind.plural for kinds in KINDS.values() for kind in kinds.values()} == PLURALS


@pytest.mark.parametrize(("name", "plural"), sorted(PLURALS.items()))
def test_plurals_and_other_spellings_mean_the_kind(name: str, plural: str) -> None:
    spellings = [name, plural, name.upper(), plural.title(), name.replace("_", "-"), plural.replace("_", "-")]

    assert {name} == {singular(spelling) for spelling in spellings}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("converstion", "kind 'converstion' is not known: did you mean 'conversation'?"),
        ("vectorstores", "did you mean 'vector_store'?"),
        ("treads", "did you mean 'thread'?"),
        ("zzz", "there are assistant, chat_completion, container, conversation, file, response, thread, vector_store"),
    ],
)
def test_an_unknown_kind_is_refused_with_the_nearest_one(given: str, said: str) -> None:
    with pytest.raises(UnknownKind, match=said.replace("?", r"\?")):
        singular(given)


def test_a_kind_that_a_worker_published_is_known() -> None:
    assert singular("batch", {"batch"}) == "batch"
    with pytest.raises(UnknownKind, match="did you mean 'batch'"):
        singular("batsh", {"batch"})


@pytest.mark.parametrize("given", ["", " thread", "a kind", None, 7, ["thread"], "x" * 65])
def test_what_is_no_name_at_all_is_refused(given: object) -> None:
    with pytest.raises(InvalidResource, match="use 1 to 64 characters"):
        singular(given)
