"""Mistakes in the policy file beyond those of tests/unit/test_policy.py: single values, and keys that contradict."""

import re
from dataclasses import replace

import pytest

from lapse.errors import ConfigError
from lapse.kinds import KINDS
from lapse.policy import checks, parse
from lapse.policy.fields import redis_url

FILE = """
[providers.hosted]
type = "openai"
base_url = "https://llm.example.com/v1"
api_key_env = "KEY"

[policies.chat]
kind = "thread"
ttl = "30d"
anchor = "created_at"
"""
KEY = 'api_key_env = "KEY"'
TTL = 'ttl = "30d"\nanchor = "created_at"'


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "retention.toml", {})
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert old in FILE
    return FILE.replace(old, new)


def test_the_file_that_is_spoilt_below_is_right() -> None:
    assert ["chat"] == [rule.partition.policy for rule in parse(FILE, "retention.toml", {}).rules]


BETWEEN = {
    "lease": (FILE + '\n[sweep]\nlease = "1s"\n', "sweep.lease: is too short for one request"),
    "auth": (changed(KEY, 'auth = "entra"'), "providers.hosted.auth: type openai takes a key"),
    "anchor alone": (changed('ttl = "30d"', 'orphan = { min_age = "1d" }'), "anchor: counts for nothing without a ttl"),
    "max_age": (
        changed('"thread"', '"assistant"').replace(TTL, 'orphan = { min_age = "1d" }\nmax_age = "9d"'),
        "policies.chat.max_age: has no meaning beside an orphan rule",
    ),
    "no unit": (changed(TTL, 'expires_after = { anchor = "created_at" }'), "give exactly one of days, hours"),
    "two units": (changed(TTL, 'expires_after = { anchor = "created_at", days = 1, hours = 1 }'), "give exactly one"),
    "two providers": (
        FILE + f'\n[providers.other]\ntype = "openai"\n{KEY}\n',
        "policies.chat.provider: is missing: there is more than one",
    ),
    "no provider": (
        FILE[FILE.index("[policies") :],
        "policies.chat.provider: is missing: write [providers.NAME] first",
    ),
    "orphans": (changed(TTL, 'orphan = { min_age = "1d" }'), "policies.chat.orphan: threads cannot be listed"),
    "claimed twice": (
        FILE + 'formerly = ["old"]\n\n[policies.more]\nkind = "conversation"\n' + TTL + '\nformerly = ["old"]\n',
        '"old" is claimed by two policies, or twice',
    ),
    "kind of no type": (
        changed('type = "openai"\n', "").replace('"thread"', '"thread"'),
        "providers.hosted.type: is missing",
    ),
}


@pytest.mark.parametrize("case", BETWEEN)
def test_keys_that_contradict(case: str) -> None:
    text, said = BETWEEN[case]

    told = refused(text)

    assert re.match(r"retention\.toml:\d+: ", told)
    assert said in told


VALUES = {
    "blank": ('api_key_env = ""', "is not the name of an environment variable"),
    "blank file": ('api_key_file = " "', "is blank: write a value or leave the key out"),
    "line break": ('api_key_file = "a\\nb"', "holds a line break or another control character"),
    "port": (f'{KEY}\nbase_url = "https://llm.example.com:99999/v1"', "is not a URL"),
    "space": (f'{KEY}\nbase_url = "https://llm.example.com/a b"', "is not a URL"),
    "bracket": (f'{KEY}\nbase_url = "https://[::1/v1"', "is not a URL"),
    "no host": (f'{KEY}\nbase_url = "https:///v1"', "names no host: write it as https://HOST/PATH"),
    "query": (f'{KEY}\nbase_url = "https://llm.example.com/v1?a=b"', "has a query or fragment"),
    "fragment": (f'{KEY}\nbase_url = "https://llm.example.com/v1#a"', "has a query or fragment"),
}


@pytest.mark.parametrize("case", VALUES)
def test_a_provider_value_that_cannot_be_meant(case: str) -> None:
    line, said = VALUES[case]
    without = FILE.replace('base_url = "https://llm.example.com/v1"\n', "") if "base_url" in line else FILE

    assert said in refused(without.replace(KEY, line))


OTHERS = {
    "name": ('[policies."a b"]\nkind = "thread"\n' + TTL, "use 1 to 64 characters"),
    "sink": ('[audit]\nsink = "syslog"', '"syslog" is not a sink: write "stdout" or "file:PATH"'),
    "empty sink": ('[audit]\nsink = "file:"', "is not a sink"),
    "limit": ('[limits]\nmax_deletions = "none"', '"none" is not a limit: write a table'),
    "registry": (
        '[registry]\nurl = "http://127.0.0.1"',
        "is not a URL that begins with redis:// or rediss:// or unix://",
    ),
    "registry host": ('[registry]\nurl = "redis:///0"', "names no host: write it as redis://HOST:6379/0"),
    "registry number": ('[registry]\nurl = "redis://127.0.0.1/cache"', "names a database that is not a number"),
    "registry socket": ('[registry]\nurl = "unix://"', "names no socket: write it as unix:///PATH?db=0"),
    "misplaced": ("[schedule]\nbatch = 7", "is no key of this table: it belongs into [sweep]"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_value_elsewhere_that_cannot_be_meant(case: str) -> None:
    table, said = OTHERS[case]

    assert said in refused(f"{FILE}\n{table}\n")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://llm.example.com:443/v1/", "https://llm.example.com/v1"),
        ("https://LLM.example.com:8443", "https://llm.example.com:8443"),
        ("http://127.0.0.1:80/v1", "http://127.0.0.1/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_a_base_url_has_one_spelling(given: str, kept: str) -> None:
    """The identity of a provider, and with it every proof, hangs on it."""
    config = parse(changed("https://llm.example.com/v1", given), "retention.toml", {})

    assert kept == config.accounts["hosted"].base_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://:pw@127.0.0.1:6379/0",
        "rediss://redis.example.com:6380/1",
        "unix:///run/redis.sock?db=0",
    ],
)
def test_a_redis_url_is_kept_as_it_is(url: str) -> None:
    assert url == redis_url(url)


def test_sinks() -> None:
    for sink in ("stdout", "file:/var/log/lapse.jsonl"):
        assert sink == parse(f'{FILE}\n[audit]\nsink = "{sink}"\n', "retention.toml", {}).audit.sink


def test_kinds_differ_in_what_can_be_kept_and_types_in_their_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """All kinds of this version have metadata, and there is one type: the next ones are told apart already."""
    bare = replace(KINDS["openai"]["thread"], has_metadata=False)
    monkeypatch.setattr(checks, "KINDS", {"openai": {"thread": bare}})

    kept = refused(FILE + 'keep = [{ metadata = { pin = "true" } }]\n')
    other = refused(changed('"thread"', '"conversation"'))

    assert "policies.chat.keep[0].metadata: threads have no metadata" in kept
    assert 'policies.chat.kind: "conversation" is no kind of type openai: there is thread' in other


def test_a_wrong_escape_in_a_key_is_not_toml() -> None:
    assert re.match(r"retention\.toml:1: not TOML", refused('"\\q" = 1\n'))
