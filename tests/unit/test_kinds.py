"""The table of kinds."""

import re
from dataclasses import replace
from datetime import date
from urllib.parse import urlsplit

import pytest

from lapse.errors import ConfigError
from lapse.providers.kinds import CONVERSATION_ITEM, DIALECTS, KINDS, Kind, singular

OPENAI = KINDS["openai"]


ALL = [
    *(pytest.param(kind, id=f"{name}-{kind.name}") for name, kinds in KINDS.items() for kind in kinds.values()),
    pytest.param(CONVERSATION_ITEM, id="conversation_item"),
]


@pytest.mark.parametrize("kind", ALL)
def test_an_entry_is_complete(kind: Kind) -> None:
    """Requests are built from these fields alone."""
    assert kind.path == f"/{kind.path[1:]}"
    assert not kind.path.endswith("/")
    assert kind.deleted_object
    assert kind.not_found or kind.probe, "an unknown 404 of this kind would halt at the first id"
    assert all("{id}" in text for text in kind.not_found)
    assert kind.probe is None or kind.probe.startswith("/")


@pytest.mark.parametrize("name", OPENAI)
def test_names_are_the_keys(name: str) -> None:
    assert OPENAI[name].name == name
    assert OPENAI[name].plural == f"{name}s"
    assert OPENAI[name].path.replace("chat/", "chat_") == f"/{name}s"


def test_two_kinds_confirm_a_deletion_with_the_objects_own_name() -> None:
    """OpenAI's reference has it so; ``file.deleted`` would be another thing's."""
    assert {name: kind.deleted_object for name, kind in OPENAI.items()} == {
        "thread": "thread.deleted",
        "assistant": "assistant.deleted",
        "conversation": "conversation.deleted",
        "file": "file",
        "vector_store": "vector_store.deleted",
        "response": "response",
        "container": "container.deleted",
        "chat_completion": "chat.completion.deleted",
    }


def test_a_container_is_never_looked_at() -> None:
    """Reading one keeps it alive."""
    assert [name for name, kind in OPENAI.items() if not kind.witness] == ["container"]


def test_what_can_be_listed() -> None:
    """Everything else exists in the registry alone."""
    listed = [name for name, kind in OPENAI.items() if kind.listable]

    assert listed == ["assistant", "file", "vector_store", "container", "chat_completion"]


def test_only_a_conversation_has_children() -> None:
    """OpenAI keeps the items of a deleted conversation."""
    assert {name: kind.items for name, kind in OPENAI.items() if kind.items} == {"conversation": "/items"}
    assert OPENAI["conversation"].child is CONVERSATION_ITEM
    assert CONVERSATION_ITEM.name not in OPENAI


@pytest.mark.parametrize("name", KINDS)
def test_a_type_says_where_it_is_and_how_its_key_travels(name: str) -> None:
    dialect = DIALECTS[name]

    assert dialect.kinds is KINDS[name]
    assert all(dialect.kinds[kind].name == kind for kind in dialect.kinds)
    assert dialect.example.startswith("https://")
    assert bool(dialect.scopes) == ("auth" in dialect.takes)
    assert not dialect.hosts or any(re.fullmatch(end, urlsplit(dialect.example).path) for end in dialect.ends)


def test_an_entra_token_is_for_what_answers_at_that_path() -> None:
    azure, project = DIALECTS["azure-openai"], "/api/projects/p/openai/v1"

    assert azure.scope("/openai/v1") == "https://cognitiveservices.azure.com/.default"
    assert azure.scope(project) == DIALECTS["foundry"].scope("/api/projects/p") == "https://ai.azure.com/.default"
    assert DIALECTS["openai"].scope("/v1") is None


def test_only_langgraph_confirms_with_a_bare_204() -> None:
    """Everywhere else a gateway that answers 204 to everything would have deleted everything."""
    assert {name for name, kinds in KINDS.items() for kind in kinds.values() if kind.no_content} == {"langgraph"}


def test_threads_can_be_listed_at_foundry_and_at_langgraph() -> None:
    assert {name for name, kinds in KINDS.items() if kinds["thread"].listable} == {"foundry", "langgraph"}


@pytest.mark.parametrize("name", ["thread", "assistant"])
def test_foundry_ends_on_a_known_day(name: str) -> None:
    sunset = KINDS["foundry"][name].sunset("res.services.ai.azure.com")

    assert sunset is not None
    assert [sunset.over(date(2027, 3, day)) for day in (30, 31)] == [False, True]
    assert KINDS["foundry"][name].sunset("127.0.0.1") is None
    assert KINDS["azure-openai"][name].sunset("res.openai.azure.com") is None


@pytest.mark.parametrize("name", ["thread", "assistant"])
@pytest.mark.parametrize("host", ["api.openai.com", "API.OpenAI.com", "eu.api.openai.com", "api.openai.com."])
def test_assistants_are_gone_from_openai(name: str, host: str) -> None:
    sunset = OPENAI[name].sunset(host)

    assert sunset is not None
    assert (date(2026, 8, 26), "conversation") == (sunset.date, sunset.successor)


@pytest.mark.parametrize("host", ["127.0.0.1", "openai.com", "xapi.openai.com", "api.openai.com.example"])
def test_other_hosts_still_serve_them(host: str) -> None:
    assert OPENAI["thread"].sunset(host) is None


def test_an_endpoint_is_gone_from_the_day_of_its_sunset_on() -> None:
    sunset = OPENAI["thread"].sunset("api.openai.com")

    assert sunset is not None
    assert [sunset.over(date(2026, 8, day)) for day in (25, 26, 27)] == [False, True, True]


def test_only_all_of_a_systems_metadata_makes_an_object_the_providers_own() -> None:
    kind = replace(OPENAI["assistant"], system={"created_by": "system"})

    assert kind.is_system({"created_by": "system", "graph": "a"})
    assert not kind.is_system({"created_by": "user"})
    assert not kind.is_system({})
    assert not OPENAI["assistant"].is_system({})


def test_conversations_are_not_sunset() -> None:
    assert OPENAI["conversation"].sunset("api.openai.com") is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("thread", "thread"),
        ("threads", "thread"),
        ("Assistants", "assistant"),
        (" conversation ", "conversation"),
        ("conversations", "conversation"),
    ],
)
def test_a_kind_is_known_in_singular_and_plural(text: str, name: str) -> None:
    assert singular(text) == name


@pytest.mark.parametrize("text", ["treads", "assistent", "conversatoins"])
def test_a_misspelled_kind_is_answered_with_the_right_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"did you mean '(thread|assistant|conversation)'"):
        singular(text)


def test_an_unknown_kind_is_answered_with_all_there_are() -> None:
    known = "assistant, chat_completion, container, conversation, file, response, thread, vector_store"
    with pytest.raises(ConfigError, match=f"kind 'zzz' is not known: there are {known}"):
        singular("zzz")
