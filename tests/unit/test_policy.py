"""The policy file: what it may say, what it means, and that everything else is refused with its place and its fix."""

import json
import random
import re
from dataclasses import astuple
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, Orphan, Pace, Rule, Share, load, parse, schema
from lapse.policy.schema import INNER, NAMED, SECTIONS, keys_of
from lapse.policy.tables import Wall
from lapse.providers.account import Account
from lapse.registry.model import Partition

SHIPPED = Path(__file__).parents[2] / "config" / "retention.toml"
SMALLEST = """
[providers.openai]
type = "openai"
api_key_env = "OPENAI_API_KEY"

[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "last_active_at"
"""
FULL = """
[registry]
url = "redis://:hunter2@127.0.0.1:6379/0"
namespace = "team-a"
deployment = "production"
allow_volatile = true
tls_ca = "/etc/ssl/ca.pem"
tls_verify = false

[celery]
broker_url = "redis://127.0.0.1:6379/1"

[schedule]
sweep = "5m"
orphans = "2h"

[sweep]
budget = "40s"
lease = "3m"
batch = 50
max_attempts = 5
tombstones = "7d"
ramp = "off"

[audit]
sink = "file:/var/log/lapse.jsonl"
max_pending = 5000

[limits]
max_deletions = { amount = 100, window = "10m" }
max_newly_due = "unlimited"

[providers.hosted]
type = "openai"
base_url = "https://llm.example.com/v1/"
api_key_file = "/run/secrets/key"
rate = "5/s"
concurrency = 8
not_found = ["Assistant not found"]
organization = "org-1"
project = "proj-1"

[providers.local]
type = "openai"
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "LOCAL_KEY"
rate = "unlimited"

[policies.support]
provider = "hosted"
kind = ["threads", "conversation"]
ttl = "7d"
anchor = "last_active_at"
max_age = "365d"
formerly = ["support-v1"]
every = "10m"
touches = "none"
expect_gone = true
mode = "enforce"
max_deletions = "unlimited"
max_newly_due = { percent = 5, at_least = 10 }
keep = [{ metadata = { pin = "true" } }]

[policies.idle]
provider = "local"
kind = "assistant"
orphan = { min_age = "2d", seen = 4, max_share = "unlimited", uses = "none" }
keep = [{ name = "prod-*" }]
"""


def read(text: str, **environ: str) -> Config:
    return parse(text, "retention.toml", environ)


def definition(table: type) -> dict[str, Any]:
    """Return what the JSON Schema says of a table."""
    found: dict[str, Any] = schema()["definitions"][re.sub("(Table|Section)$", "", table.__name__)]
    return found


def refused(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value)


def test_the_smallest_file_works_and_only_observes() -> None:
    (rule,) = read(SMALLEST).rules

    assert ("openai", "conversation", "chat") == (rule.partition.provider, rule.partition.kind, rule.partition.policy)
    assert (30 * 86400, "last_active_at", False, None, 60) == attrgetter(
        "ttl", "anchor", "enforce", "max_age", "every"
    )(rule)
    assert (Pace(5000, 3600), Share(20, 100)) == (rule.max_deletions, rule.max_newly_due)


def test_every_default_is_the_documented_one() -> None:
    config = read(
        SMALLEST.replace("[policies.chat]", '[policies.chat]\nprovider = "openai"')
        + '[providers.b]\ntype = "openai"\nbase_url = "http://[::1]:80/v1/"\napi_key_file = "/k"\n'
        + '[policies.idle]\nprovider = "b"\nkind = "assistant"\norphan = { min_age = "1d" }\n'
    )
    idle, chat = config.rules

    assert (None, "lapse", None, None, False, "auto", None, True, None, None, None, None) == astuple(config.registry)
    assert (None, {}) == astuple(config.celery)
    assert (60.0, 3600.0) == astuple(config.schedule)
    assert (50.0, 120.0, 100, 8, 30 * 86400.0, 7 * 86400.0, None, 900.0) == astuple(config.sweep)
    assert ("stdout", 100_000, None, "hmac") == astuple(config.audit)
    assert (False, (10, 3600.0), 86400.0, 400 * 86400.0, 30 * 86400.0) == astuple(config.erasure)
    assert (None,) == astuple(config.receipts)
    assert Account(
        "openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", None, None, 1.0, 16, (), None, None, None,
        allow_plaintext=False,
    ) == config.accounts["openai"]  # fmt: skip
    assert ("http://[::1]/v1", None, "/k") == attrgetter("base_url", "api_key_env", "api_key_file")(
        config.accounts["b"]
    )
    assert Rule(
        Partition("openai", "conversation", "chat"), 30 * 86400.0, "last_active_at", None, None, (), {}, enforce=False,
        max_deletions=Pace(5000, 3600.0), max_newly_due=Share(20.0, 100), touches_stated=False, expect_gone=False,
        cancel=False, every=60.0, formerly=(), digest=chat.digest, max_already_gone=Wall(50.0, 20),
    ) == chat  # fmt: skip
    assert (Orphan(86400.0, 3, Share(20.0, 10), uses_stated=False), None, None, 3600.0, False) == attrgetter(
        "orphan", "ttl", "anchor", "every", "enforce"
    )(idle)
    assert (None, ()) == (config.path, config.variables)
    assert re.fullmatch(r"[0-9a-f]{12}", config.hash)
    assert re.fullmatch(r"[0-9a-f]{12}", chat.digest)


def test_the_shipped_file_is_the_smallest_one() -> None:
    assert read(SMALLEST).hash == load(SHIPPED, {}).hash


def test_every_key_there_is_stands_in_the_shipped_file_with_its_default() -> None:
    """Those of inner tables are named where they are."""
    text = SHIPPED.read_text()
    for section, model in (SECTIONS | NAMED | INNER).items():
        for key in keys_of(model):
            assert re.search(rf"\b{key}\b", text), (section, key)
            default = definition(model)["properties"][key].get("default", {})
            if section in SECTIONS and not isinstance(default, dict):
                shown = re.search(rf"^# {key} = (\S+)", text, re.MULTILINE)
                assert shown, key
                assert json.dumps(default) == shown[1], key


def test_every_line_that_the_shipped_file_shows_is_understood() -> None:
    shown = re.sub(r"^# (?=\[|[a-z_]+ = )", "", SHIPPED.read_text(), flags=re.MULTILINE)
    shown = shown.replace('kind = "conversation"', 'kind = "conversation"\nprovider = "openai"', 1)

    config = read(shown)

    assert {"chat", "support", "sessions", "idle-assistants"} == {rule.partition.policy for rule in config.rules}
    assert (50, 120, 100, 8, 30 * 86400, 900) == attrgetter(
        "budget", "lease", "batch", "max_attempts", "tombstones", "ramp"
    )(config.sweep)


def test_the_whole_vocabulary() -> None:
    config = read(FULL)
    assistant, conversation, thread = sorted(config.rules, key=lambda rule: rule.partition.kind)

    assert ("hosted", "https://llm.example.com/v1", 5.0, 8) == attrgetter("name", "base_url", "rate", "concurrency")(
        config.accounts["hosted"]
    )
    assert config.accounts["local"].rate is None
    assert (None, None, None) == (config.sweep.ramp, thread.max_deletions, assistant.max_newly_due)
    assert (Share(5, 10), 600, ("support-v1",), True, True) == attrgetter(
        "max_newly_due", "every", "formerly", "touches_stated", "enforce"
    )(thread)
    assert conversation.digest != thread.digest
    assert assistant.orphan
    assert (2 * 86400, 4, None, True) == attrgetter("min_age", "seen", "max_share", "uses_stated")(assistant.orphan)
    assert (7200, Pace(100, 600)) == (assistant.every, assistant.max_deletions)
    assert assistant.keep[0].matches("prod-1", {})
    assert not assistant.keep[0].matches("dev-1", {})


BAD = {
    'ttl = "30d"': [
        ("ttl = 30", "30 has no unit"),
        ('ttl = "30"', "duration"),
        ('ttl = "0d"', "zero"),
        ('ttl = "-1d"', "duration"),
        ('ttl = ""', "duration"),
        ("ttl = true", "unit"),
        ('ttl = "200y"', "duration"),
        ('tll = "30d"', 'did you mean "ttl"'),
        ("", "ttl"),
        ('ttl = "30d"\norphan = { min_age = "1d" }', "beside"),
        ('ttl = "unlimited"', "duration"),
    ],
    'anchor = "last_active_at"': [
        ("", "anchor"),
        ('anchor = "last_active"', "last_active_at"),
        ("anchor = 1", "choice"),
        ('anchor = "last_active_at"\nmax_deletions = 0', "unlimited"),
        ('anchor = "last_active_at"\nmax_deletions = { amount = 0, window = "1h" }', "at least 1"),
        ('anchor = "last_active_at"\nmax_deletions = { amount = 5 }', "missing"),
        ('anchor = "last_active_at"\nmax_newly_due = { percent = 0, at_least = 1 }', "more than 0"),
        ('anchor = "last_active_at"\nmax_newly_due = { percent = 100, at_least = 1 }', "unlimited"),
        ('anchor = "last_active_at"\nmode = "delete"', "choice"),
        ('anchor = "last_active_at"\nkeep = [{}]', "blank"),
        ('anchor = "last_active_at"\nkeep = [{ name = "x" }]', "no name"),
        ('anchor = "last_active_at"\nprovider = "opena"', 'did you mean "openai"'),
        ('anchor = "last_active_at"\nformerly = ["chat"]', "is a policy of this file"),
    ],
    'kind = "conversation"': [
        ('kind = "convresation"', "did you mean"),
        ("kind = []", "empty"),
        ('kind = ["conversation", "conversations"]', "twice"),
        ('kind = "thread"', "2026-08-26"),
        ("kind = 7", "kind"),
        ("", "kind"),
    ],
    'type = "openai"': [
        ('type = "opnai"', "did you mean"),
        ('type = "foundry"', "write where the account is"),
        ("", "type"),
        ('type = "openai"\nbase_url = "http://llm.example.com/v1"', "allow_plaintext"),
        ('type = "openai"\nbase_url = "llm.example.com"', "https://"),
        ('type = "openai"\nbase_url = "https://u:p@llm.example.com"', "credentials"),
        ('type = "openai"\nrate = "60"', "rate"),
        ('type = "openai"\nrate = "0/m"', "nothing at all"),
        ('type = "openai"\nconcurrency = 0', "at least 1"),
        ('type = "openai"\napi_key = "sk-secretsecret"', "api_key_env"),
        ('type = "openai"\nnot_found = ["not found"]', "missing"),
    ],
    'api_key_env = "OPENAI_API_KEY"': [
        ("", "api_key_env"),
        ('api_key_env = "sk-proj-1234567890"', "name of an environment variable"),
        ('api_key_env = "A"\napi_key_file = "/b"', "beside api_key_env"),
    ],
}  # fmt: skip
CASES = [(good, bad, said) for good, cases in BAD.items() for bad, said in cases]


@pytest.mark.parametrize(("good", "bad", "said"), CASES, ids=[bad or f"no {good}" for good, bad, _said in CASES])
def test_a_mistake_is_refused_with_file_line_and_fix(good: str, bad: str, said: str) -> None:
    text = refused(SMALLEST.replace(good, bad))

    assert re.match(r"retention\.toml:\d+: ", text)
    assert said in text
    assert "sk-secret" not in text
    assert "sk-proj" not in text


def test_all_problems_are_told_at_once_each_at_its_line() -> None:
    text = refused(
        SMALLEST.replace('ttl = "30d"', "ttl = 30").replace("anchor =", "anchr =").replace('"openai"', '"opnai"')
    )

    assert [3, 6, 8, 9] == [int(line.split(":")[1]) for line in text.splitlines()]


def test_a_policy_written_twice_and_a_torn_file_are_told_with_their_line() -> None:
    assert "retention.toml:11: policies.chat: is written a second time (first on line 6)" in refused(
        SMALLEST + "\n[policies.chat]\n"
    )
    torn = SMALLEST[: SMALLEST.index("last_active")]
    assert "retention.toml:9: policies.chat.anchor: is not TOML: Unterminated string" == refused(torn)


def test_a_file_without_policies_is_refused() -> None:
    assert "[policies.NAME]" in refused("")


def test_two_hundred_mutations_are_refused_or_mean_the_same() -> None:
    """Typing errors in any key of the full file: never a silent default."""
    chance, known = random.Random(7), read(FULL)
    keys = [match.span(1) for match in re.finditer(r"^([a-z_]+) = ", FULL, re.MULTILINE)]
    for _ in range(200):
        start, end = chance.choice(keys)
        at = chance.randrange(start, end)
        mutated = FULL[:at] + chance.choice("xyz") + FULL[at + 1 :]
        if mutated == FULL:
            continue
        text = refused(mutated)
        line = FULL[:start].count("\n") + 1
        assert f"retention.toml:{line}: " in text, mutated[start:end]
    assert known.hash == read(FULL).hash


def test_the_environment_overrides_and_is_named_in_errors() -> None:
    config = read(
        SMALLEST, LAPSE_POLICIES__CHAT__MODE="enforce", LAPSE_SWEEP__BATCH="7", LAPSE_CONFIG="x", LAPSE_PROVIDER="y"
    )

    assert (True, 7) == (config.rules[0].enforce, config.sweep.batch)
    assert ("LAPSE_POLICIES__CHAT__MODE", "LAPSE_SWEEP__BATCH") == config.variables
    assert "LAPSE_POLICIES__CHAT__MODE: policies.chat.mode" in refused(SMALLEST, LAPSE_POLICIES__CHAT__MODE="enfrce")
    assert "did you mean LAPSE_POLICIES__CHAT__TTL" in refused(SMALLEST, LAPSE_POLICIES__CHAT__TLL="1d")


def test_an_override_finds_a_name_with_a_dash() -> None:
    text = FULL.replace("policies.idle", "policies.idle-ones")

    changed = read(text, LAPSE_POLICIES__IDLE_ONES__MODE="enforce")

    assert any(rule.enforce for rule in changed.rules if rule.partition.policy == "idle-ones")


def test_the_schema_knows_every_key_and_describes_it() -> None:
    made = schema()

    assert made["$schema"].startswith("http://json-schema.org/draft-07")
    for section, model in (SECTIONS | NAMED | INNER).items():
        assert set(keys_of(model)) == set(definition(model)["properties"]), section
        assert not definition(model)["additionalProperties"]
        for key, field in definition(model)["properties"].items():
            assert len(field["description"]) > 5, (section, key)
    assert ["min_age"] == made["definitions"]["Orphan"]["required"]
    assert [["ttl", "anchor"], ["expires_after"], ["orphan"]] == [
        choice["required"] for choice in made["definitions"]["Policy"]["anyOf"]
    ]


def test_the_schema_has_no_null_and_its_defaults_are_right_in_a_file() -> None:
    made = schema()

    assert "null" not in json.dumps(made).lower()
    assert {"1m", "1h"} == {field["default"] for field in made["definitions"]["Schedule"]["properties"].values()}
    for section, model in SECTIONS.items():
        for key, field in definition(model)["properties"].items():
            if "default" in field:
                value = json.dumps(field["default"]).replace('": ', '" = ')
                assert read(f"[{section}]\n{key} = {value}\n{SMALLEST}") == read(SMALLEST)


def test_the_schemas_references_lead_somewhere() -> None:
    made = schema()
    names = set(re.findall(r'"\$ref": "#/definitions/(\w+)"', json.dumps(made)))

    assert names == set(made["definitions"])


def test_only_responses_that_go_with_their_conversation_do_not_protect_it() -> None:
    policy = '[providers.o]\ntype = "openai"\napi_key_env = "K"\n[policies.c]\nttl = "1d"\nanchor = "created_at"\n'

    along = [
        read(f"{policy}kind = '{kind}'\ncascade = {{ {cascade} }}").rules[0].along
        for kind, cascade in (
            ("conversation", 'response = "delete"'),
            ("conversation", 'response = "leave"'),
            ("vector_store", 'file = "delete"'),
        )
    ]

    assert ["response", None, None] == along


def test_an_account_is_told_by_where_it_is_and_not_by_its_key() -> None:
    text = '[providers.o]\ntype = "openai"\napi_key_env = "K"\n'
    text += '[policies.c]\nkind = "file"\nttl = "1d"\nanchor = "created_at"\n'
    (here,) = read(text).accounts.values()
    (rotated,) = read(text.replace('"K"', '"OTHER"')).accounts.values()
    (moved,) = read(text.replace('"K"', '"K"\nproject = "proj_1"')).accounts.values()

    assert here.place == rotated.place
    assert here.place != moved.place
