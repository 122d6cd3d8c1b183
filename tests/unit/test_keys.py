"""Key names: one module in Python, and the same names in every script."""

import re

import pytest
from redis.crc import key_slot

from lapse.errors import InvalidResource
from lapse.registry import keys
from lapse.registry.scripts import PACKAGE
from support.lua import PARTS, SCRIPTS, source

SOURCES = {name: re.sub(r"--.*", "", source(name)) for name in SCRIPTS | PARTS}
ALL_SOURCE = "\n".join(SOURCES.values())
PYTHON = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))


def quoted(text: str) -> set[str]:
    return set(re.findall(r"'(\w+)'", text))


def partition_names() -> set[str]:
    """Return every index name that a script may hand to part(): as text, or from a list or table of names."""
    found = set(re.findall(r"part\([^()]*?, '(\w+)'\)", ALL_SOURCE))
    for names in re.findall(r"local place_of = \{([^}]*)\}", ALL_SOURCE):
        found |= quoted(names)
    for names in re.findall(r"ipairs\(\{([^}]*)\}\) do\s+(?:registered|for _, id)", ALL_SOURCE):
        found |= quoted(names)
    for names in re.findall(r"return \{( fresh = [^}]*)\}", ALL_SOURCE):
        found |= set(re.findall(r"(\w+) = ", names))
    return found | set(re.findall(r"\.\. ':(\w+):?'", ALL_SOURCE))


def slot_names() -> set[str]:
    """Return every name that a script hands to key(), or writes after the slot's own prefix."""
    prefixed = set(re.findall(r"\bkey\('(\w+):' \.\.", ALL_SOURCE))
    return prefixed | set(re.findall(r"(?:\bkey\(|KEYS\[1\] \.\. )'(\w+)'", ALL_SOURCE))


def test_scripts_and_python_know_the_same_indexes() -> None:
    assert set(keys.PARTITION_KEYS) == partition_names()


def test_scripts_know_no_key_of_a_slot_that_python_does_not() -> None:
    assert set() == slot_names() - set(keys.SLOT_KEYS)


@pytest.mark.parametrize("name", [*keys.PARTITION_KEYS, *keys.SLOT_KEYS])
def test_every_name_is_used(name: str) -> None:
    assert name in slot_names() | partition_names() or f"keys.{name.upper()}" in PYTHON


def test_names_are_told_once() -> None:
    """A policy could be called as an index is; a partition's keys have one part more, so they never meet."""
    everything = [*keys.PARTITION_KEYS, *keys.SLOT_KEYS]

    assert sorted(set(everything)) == sorted(everything)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in everything)
    assert set(everything) == {
        value for name, value in vars(keys).items() if name.isupper() and name[0] != "_" and isinstance(value, str)
    }


@pytest.mark.parametrize("source", SOURCES)
def test_a_script_touches_only_what_begins_with_its_key(source: str) -> None:
    """A cluster runs a script where its declared key lives: every other name has to share the hash tag."""
    own = {"KEYS[1]", "slot", "key", "part", "hash", "memory_key", "place"}  # the last three come from key() and part()
    for variable, first in re.findall(r"local (\w+) = (KEYS\[1\]|\w+)", SOURCES[source]):
        own |= {variable} if first in own else set()
    used = re.findall(r"redis\.call\('[A-Z]+', (KEYS\[1\]|\w+)", SOURCES[source])

    assert [] == [name for name in used if name not in own]


def test_the_keys_of_a_slot_share_a_hash_slot() -> None:
    prefix = keys.slot("lapse", "openai", "thread")
    names = [prefix + name for name in keys.SLOT_KEYS]
    names += [keys.partition("lapse", "openai", "thread", policy) + keys.FRESH for policy in ("chat", "import", "x.y")]

    assert 1 == len({key_slot(name.encode()) for name in names})


def test_two_slots_are_two_hash_slots() -> None:
    """A cluster spreads by provider and kind."""
    names = [keys.slot("lapse", provider, kind) for provider in ("a", "b") for kind in ("thread", "assistant")]

    assert 4 == len({key_slot(name.encode()) for name in names})


def test_what_keys_look_like() -> None:
    """What is deployed holds these names: they are never changed, only added to."""
    assert "lapse:{openai:thread}:" == keys.slot("lapse", "openai", "thread")
    assert "lapse:{openai:thread}:chat:" == keys.partition("lapse", "openai", "thread", "chat")
    assert "lapse:{openai}:flow" == keys.throttle("lapse", "openai")
    assert "lapse:{broker}:" == keys.broker("lapse")
    assert "lapse:epoch" == keys.epoch("lapse")
    assert "lapse:nonces" == keys.nonces("lapse")
    assert "lapse:held_subjects" == keys.held_subjects("lapse")
    assert "lapse:erasures" == keys.erasures("lapse")
    assert "lapse:asked_erasures" == keys.asked_erasures("lapse")
    assert "lapse:erasing" == keys.erasing("lapse")
    assert "lapse:control" == keys.control("lapse")
    assert "lapse:published" == keys.published("lapse")
    assert "lapse:workers" == keys.workers("lapse")


@pytest.mark.parametrize("name", ["a", "chat", "Chat-2.x_y", "0", "a" * 64])
def test_names_that_can_be_stored(name: str) -> None:
    assert name == keys.name(name, "policy")


@pytest.mark.parametrize(
    "name", ["", "a" * 65, ".a", "-a", "_a", "a b", "a:b", "a{b}", "a|b", "a*", "a\n", "é", None, 5, b"a"]
)
def test_names_that_cannot_be_stored(name: object) -> None:
    with pytest.raises(InvalidResource, match=r"policy .*: use 1 to 64 characters"):
        keys.name(name, "policy")


@pytest.mark.parametrize("id_", ["a", "thread_abc123", "a.b:c=d+e-f", "...", "x" * 1024])
def test_ids_that_can_be_stored(id_: str) -> None:
    assert id_ == keys.identifier(id_)


BAD_IDS = ["", ".", "..", "x" * 1025, "a/b", "a b", "a|b", "a%2e", "a\n", "a?b", "a#b", "{a}", "é", None, 5, b"a"]


@pytest.mark.parametrize("id_", BAD_IDS)
def test_ids_that_cannot_be_stored(id_: object) -> None:
    with pytest.raises(InvalidResource, match=r"id .*: use 1 to 1024 characters") as refused:
        keys.identifier(id_)

    assert len(str(refused.value)) < 200


def test_no_provider_is_called_as_the_brokers_keys_are() -> None:
    assert "brokers" == keys.provider("brokers")
    with pytest.raises(InvalidResource, match="give it another name"):
        keys.provider("broker")
    with pytest.raises(InvalidResource, match="provider 'no name': use 1 to 64 characters"):
        keys.provider("no name")


def test_what_stands_among_the_slots_and_names_none_is_left_out() -> None:
    strange = (b"\xff/thread", b"openai", b"", b"a/b/c", b"<script>/thread", b"openai/\x00")

    assert [("azure", "file"), ("openai", "thread")] == keys.slots_named([b"openai/thread", "azure/file", *strange])
    assert ["chat", "idle", "openai"] == keys.policies_named([b"idle", "chat", *strange])
