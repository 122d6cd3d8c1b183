"""Digest and hash of a policy file: equal for one meaning however it is spelled, and different for two."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapse.policy import Config, Keep, Share, parse

SMALLEST = """
[providers.openai]
type = "openai"
api_key_env = "OPENAI_API_KEY"

[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "last_active_at"
"""


def read(text: str) -> Config:
    return parse(text, "retention.toml", {})


def test_a_password_is_neither_shown_nor_hashed() -> None:
    for form in ("redis://user:{}@h:6379/0", "rediss://:{}@h/0", "unix://:{}@/redis.sock"):
        one, other = (
            read(f'{SMALLEST}[registry]\nurl = "{form}"\n[celery]\nbroker_url = "{form}"\n'.replace("{}", password))
            for password in ("hunter2", "changed")
        )

        assert "hunter2" not in repr(one)
        assert one.hash == other.hash != read(SMALLEST).hash


def test_a_proxy_is_hashed_without_its_password_and_changes_no_rule() -> None:
    def through(proxy: str) -> Config:
        return read(SMALLEST.replace("[policies", f"{proxy}[policies"))

    one, other = (through(f'proxy = "http://lapse:{password}@proxy:3128"\n') for password in ("hunter2", "changed"))
    assert "hunter2" not in repr(one)
    assert one.hash == other.hash != read(SMALLEST).hash
    assert through('ca_file = "/ca.pem"\n').hash not in {one.hash, read(SMALLEST).hash}
    assert one.rules == read(SMALLEST).rules


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('ttl = "30d"', 'ttl = "720h"'),
        ('ttl = "30d"', 'ttl = "4w 2d"'),
        ('kind = "conversation"', 'kind = ["conversations"]'),
    ],
)
def test_equal_meaning_has_one_digest(one: str, other: str) -> None:
    assert read(SMALLEST).rules[0].digest == read(SMALLEST.replace(one, other)).rules[0].digest
    assert read(SMALLEST).hash == read(SMALLEST.replace(one, other)).hash


def test_openais_own_spelling_means_the_same() -> None:
    for spelt in ("days = 30", "hours = 720", "minutes = 43200", "seconds = 2592000"):
        pasted = SMALLEST.replace(
            'ttl = "30d"\nanchor = "last_active_at"', f'expires_after = {{ anchor = "last_active_at", {spelt} }}'
        )

        assert read(SMALLEST).rules == read(pasted).rules
        assert read(SMALLEST).hash == read(pasted).hash


def test_order_and_what_is_implied_change_neither_digest_nor_hash() -> None:
    keep = 'keep = [{ metadata = { a = "1", b = "2" } }, { metadata = { c = "3" } }]\nformerly = ["x", "y"]\n'
    turned = 'formerly = ["y", "x"]\nkeep = [{ metadata = { c = "3" } }, { metadata = { b = "2", a = "1" } }]\n'
    stated = SMALLEST.replace("[policies", 'base_url = "HTTPS://API.openai.com:443/v1/"\nrate = "60/m"\n[policies')
    stated += 'provider = "openai"\nmode = "observe"\nmax_deletions = { window = "60m", amount = 5000 }\n'

    assert read(SMALLEST + keep) == read(stated + turned)
    assert read(SMALLEST + keep) != read(SMALLEST)


def test_rules_are_in_one_order_however_the_file_is_written() -> None:
    blocks = [
        f'[policies.{name}]\nkind = {kind}\nprovider = "{provider}"\nttl = "1d"\nanchor = "created_at"\n'
        for name, kind, provider in (
            ("b", '["thread", "assistant"]', "z"),
            ("a", '"thread"', "z"),
            ("c", '"thread"', "y"),
        )
    ] + [f'[providers.{name}]\ntype = "openai"\napi_key_env = "K"\nbase_url = "https://{name}/v1"\n' for name in "zy"]
    order = ["y/thread/c", "z/assistant/b", "z/thread/a", "z/thread/b"]

    for written in itertools.permutations(blocks):
        config = read("".join(written))
        assert order == [str(rule.partition) for rule in config.rules]
        assert read("".join(blocks)) == config
    assert 4 == len({rule.digest for rule in config.rules})


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_two_ttls_have_one_digest_exactly_if_they_are_equal(one: int, other: int) -> None:
    first, second = (read(SMALLEST.replace('"30d"', f'"{seconds}s"')) for seconds in (one, other))
    spelt = read(SMALLEST.replace('"30d"', f'"{one // 86400}d {one % 86400}s"'))

    assert (one == other) == (first.rules[0].digest == second.rules[0].digest) == (first.hash == second.hash)
    assert first.rules == spelt.rules


def test_a_share_allows_its_percent_but_at_least_its_number() -> None:
    assert [False, True, False, True] == [
        Share(20, 10).exceeded(*pair) for pair in ((10, 1), (11, 50), (200, 1000), (201, 1000))
    ]


def test_what_is_kept_matches_in_every_part() -> None:
    keep = Keep("prod-*", {"pin": "t*"})

    assert keep.matches("prod-1", {"pin": "true", "more": "x"})
    assert not keep.matches("prod-1", {"pin": "false"})
    assert not keep.matches("prod-1", {})
    assert not keep.matches("Prod-1", {"pin": "true"})
    assert not keep.matches(None, {"pin": "true"})
    assert Keep("*", {}).matches(None, {})


@pytest.mark.parametrize(
    "line",
    [
        'ttl = "29d"',
        'anchor = "created_at"',
        'max_age = "60d"',
        'mode = "enforce"',
        'touches = "none"',
        'keep = [{ metadata = { a = "b" } }]',
        'cascade = { conversation_item = "leave" }',
        'max_deletions = "unlimited"',
        'max_newly_due = "unlimited"',
    ],
)
def test_whatever_decides_a_deletion_changes_the_digest(line: str) -> None:
    key = line.split(" = ", maxsplit=1)[0]
    kept = "\n".join(known for known in SMALLEST.splitlines() if not known.startswith(f"{key} = "))

    assert read(SMALLEST).rules[0].digest != read(f"{kept}\n{line}\n").rules[0].digest


def test_the_provider_is_part_of_the_digest_and_the_schedule_is_not() -> None:
    moved = SMALLEST.replace("[policies", 'base_url = "https://eu.api.openai.com/v1"\n\n[policies')

    assert read(SMALLEST).rules[0].digest != read(moved).rules[0].digest
    assert read(SMALLEST).rules[0].digest == read(SMALLEST + '\nevery = "1h"\n').rules[0].digest
