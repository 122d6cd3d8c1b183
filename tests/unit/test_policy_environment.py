"""Overrides by environment: every key, every type of value, and no variable that does nothing in silence."""

import os
import subprocess
import sys
from operator import attrgetter

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, Pace, Share, parse
from lapse.policy.schema import NAMED, SECTIONS, keys_of

TEXT = """
[providers.main]
type = "openai"
api_key_env = "KEY"

[policies.chat-Room.v2]
kind = "conversation"
ttl = "30d"
anchor = "created_at"
[policies.other]
kind = "conversation"
ttl = "1d"
anchor = "created_at"
""".replace("chat-Room.v2", '"chat-Room.v2"')
CHAT = "LAPSE_POLICIES__CHAT_ROOM_V2__"


def read(text: str = TEXT, **environ: str) -> Config:
    return parse(text, "retention.toml", environ)


def refused(text: str = TEXT, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value).splitlines()


def test_each_type_of_value_is_understood_with_and_without_quotes() -> None:
    config = read(
        **{
            f"{CHAT}TTL": "2h",
            f"{CHAT}MODE": '"enforce"',
            f"{CHAT}EXPECT_GONE": "true",
            f"{CHAT}KIND": '["conversations"]',
            f"{CHAT}KEEP": '[{ metadata = { pin = "yes" } }]',
            f"{CHAT}MAX_DELETIONS": '{ amount = 3, window = "1m" }',
            f"{CHAT}MAX_NEWLY_DUE__PERCENT": "2.5",
            f"{CHAT}MAX_NEWLY_DUE__AT_LEAST": "7",
            f"{CHAT}CASCADE__CONVERSATION_ITEM": "leave",
            "LAPSE_LIMITS__MAX_DELETIONS": "unlimited",
            "LAPSE_PROVIDERS__MAIN__RATE": "5/s",
            "LAPSE_PROVIDERS__MAIN__ORGANIZATION": "12345",
            "LAPSE_PROVIDERS__MAIN__PROJECT": "2026-01-01",
            "LAPSE_PROVIDERS__MAIN__CONCURRENCY": " 4 ",
            "LAPSE_REGISTRY__URL": '"redis://h:1/0"',
            "LAPSE_SWEEP__RAMP": "off",
            "LAPSE_ERASURE__BY_APPLICATION": "true",
            "LAPSE_ERASURE__RATE": '{ amount = 3, window = "1d" }',
            "LAPSE_RECEIPTS__KEY_FILE": "/run/secrets/receipts",
        }
    )
    chat, other = config.rules

    assert "chat-Room.v2" == chat.partition.policy
    assert (7200, True, True, "conversation") == (chat.ttl, chat.enforce, chat.expect_gone, chat.partition.kind)
    assert {"pin": "yes"} == chat.keep[0].metadata
    assert (Pace(3, 60), Share(2.5, 7), {"conversation_item": "leave"}) == attrgetter(
        "max_deletions", "max_newly_due", "cascade"
    )(chat)
    assert (86400, None) == (other.ttl, other.max_deletions)
    account = config.accounts["main"]
    assert (5.0, "12345", "2026-01-01", 4) == attrgetter("rate", "organization", "project", "concurrency")(account)
    assert ("redis://h:1/0", None) == (config.registry.url, config.sweep.ramp)
    assert (True, Pace(3, 86400)) == (config.erasure.by_application, config.erasure.rate)
    assert "/run/secrets/receipts" == config.receipts.key_file
    assert 19 == len(config.variables)


def test_an_override_is_part_of_hash_and_digest_and_equals_the_same_in_the_file() -> None:
    changed, filed = read(**{f"{CHAT}TTL": "2h"}), read(TEXT.replace("30d", "2h"))

    assert read().hash != changed.hash == filed.hash
    assert read().rules[0].digest != changed.rules[0].digest == filed.rules[0].digest


def test_variables_of_other_things_are_left_alone() -> None:
    environ = {"LAPSE_CONFIG": "x", "LAPSE_PROVIDER": "y", "LAPSE_TEST_SERVER": "z", "OTHER__URL": "q", "LAPSE_": ""}
    injected = {"LAPSE_SERVICE_HOST": "10.0.0.1", "LAPSE_REGISTRY_SERVICE_PORT": "6379", "LAPSE_SWEEP_PORT": "1"}

    assert read().hash == read(**environ, **injected).hash


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LAPSE_REGISTY__URL", "redis://h/0", "did you mean LAPSE_REGISTRY__URL?"),
        ("LAPSE_POLICIES__OTER__MODE", "enforce", "did you mean LAPSE_POLICIES__OTHER__MODE?"),
        ("LAPSE_POLICIES__OTHER__MOED", "enforce", "did you mean LAPSE_POLICIES__OTHER__MODE?"),
        ("LAPSE_POLICIES__OTHER", "enforce", "sets no key"),
        ("LAPSE_POLICIES__OTHER__", "enforce", "sets no key"),
        ("LAPSE_POLICIES__OTHER__TTL__", "1d", "sets no key"),
        ("LAPSE_SWEEP__", "1", "sets no key"),
        ("LAPSE_XYZZY__PLUGH", "1", "unset it"),
        ("LAPSE___", "1", "sets no key"),
        ("LAPSE_REGISTRY_URL", "redis://h/0", "did you mean LAPSE_REGISTRY__URL, with two underscores?"),
        ("LAPSE_POLICIES_OTHER_MODE", "enforce", "did you mean LAPSE_POLICIES__OTHER__MODE, with two underscores?"),
        ("LAPSE_REGISTRY__URL", "", "is blank"),
        ("LAPSE_SWEEP__BATCH", "  ", "is blank"),
        ("LAPSE_SWEEP__BATCH", "7\nbudget = 3", "sweep.batch"),
        ("LAPSE_SWEEP__BATCH", "9" * 5000, "sweep.batch"),
        ("LAPSE_SWEEP__BATCH", "[" * 5000, "sweep.batch"),
        ("LAPSE_SWEEP__BATCH", "0", "sweep.batch: 0 is too small"),
        ("LAPSE_SCHEDULE__SWEEP", "60", "schedule.sweep: 60 has no unit"),
        ("LAPSE_REGISTRY__URL", "http://h", "registry.url: is not a URL that begins with redis://"),
        ("LAPSE_LIMITS__MAX_DELETIONS__AMOUNT", "5", "limits.max_deletions.window: is missing"),
        ("LAPSE_ERASURE__RATE", "unlimited", "erasure.rate: "),
        ("LAPSE_ERASURE__LATE", "1y", "erasure.late: "),
        ("LAPSE_RECEIPTS__KEY_FILE", "", "is blank"),
        ("LAPSE_LIMITS__MAX_DELETIONS__AMUONT", "5", "limits.max_deletions.amuont: is no key of this table"),
        ("LAPSE_POLICIES__OTHER__TTL__DAYS", "5", "policies.other.ttl: "),
        ("LAPSE_PROVIDERS__MAIN__API_KEY", "sk-hunter2", "did you mean LAPSE_PROVIDERS__MAIN__API_KEY_"),
        ("LAPSE_PROVIDERS__MAIN__API_KEY_ENV", "sk-hunter2", "not shown"),
    ],
    ids=str,
)  # fmt: skip
def test_a_variable_that_cannot_be_followed_is_named_with_the_fix(name: str, value: str, said: str) -> None:
    lines = refused(**{name: value})

    assert all(line.startswith(f"{name}: ") for line in lines)
    assert said in "\n".join(lines)
    assert "hunter2" not in "".join(lines)


def test_two_variables_for_one_key_and_one_for_two_names_are_refused() -> None:
    assert refused(LAPSE_SWEEP__BATCH="1", LAPSE_sweep__BATCH="2") == [
        "LAPSE_sweep__BATCH: sets the same key as LAPSE_SWEEP__BATCH: unset one of them"
    ]
    twins = TEXT + '[policies.a-b]\nkind = "conversation"\nttl = "1d"\nanchor = "created_at"\n'
    twins += twins[twins.index("[policies.a-b]") :].replace("a-b", "a_b")
    assert "fits more than one name" in refused(twins, LAPSE_POLICIES__A_B__TTL="2d")[0]


def test_problems_of_file_and_environment_are_told_together() -> None:
    lines = refused(TEXT.replace('"30d"', "30"), LAPSE_SWEEP__BATCH="0", LAPSE_SWEEP__BACH="1")

    assert ["retention.toml:8", "LAPSE_SWEEP__BACH", "LAPSE_SWEEP__BATCH"] == [line.split(": ")[0] for line in lines]


def test_a_file_whose_sections_are_no_tables_is_still_only_wrong() -> None:
    lines = refused("policies = 3\nsweep = 4\nlimits = []\n", LAPSE_POLICIES__X__TTL="1d", LAPSE_SWEEP__BATCH="7")

    assert any(line.startswith("retention.toml:1: policies: 3 is not a table") for line in lines)


@pytest.mark.parametrize(
    "name",
    [f"LAPSE_{section}__{key}".upper() for section, model in SECTIONS.items() for key in keys_of(model)]
    + [f"LAPSE_PROVIDERS__MAIN__{key}".upper() for key in keys_of(NAMED["providers"])]
    + [f"LAPSE_POLICIES__OTHER__{key}".upper() for key in keys_of(NAMED["policies"])],
)
def test_every_key_has_a_variable(name: str) -> None:
    """A value of the wrong type for any key is refused under the key's own variable."""
    lines = refused(**{name: "x\x01y"})

    assert any(line.startswith(f"{name}: ") for line in lines)


def test_the_environment_itself_is_used_as_it_is() -> None:
    script = (
        "import os; from lapse.policy import parse; "
        f"print(parse({TEXT!r}, 'f', os.environ).rules[1].ttl, parse({TEXT!r}, 'f', os.environ).variables)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LAPSE_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=clean | {"LAPSE_POLICIES__OTHER__TTL": "3h"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "10800.0 ('LAPSE_POLICIES__OTHER__TTL',)" == done.stdout.strip()
