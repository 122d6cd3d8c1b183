"""Digests and hashes that workers of other versions computed: one meaning keeps its digest from version to version."""

import hashlib
import re
from datetime import date

import pytest

from lapse.policy import enforced, parse, schema

SMALLEST = """
[providers.openai]
type = "openai"
api_key_env = "OPENAI_API_KEY"

[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "last_active_at"
"""
EVERY_KEY = """
[registry]
url = "redis://:hunter2@127.0.0.1:6379/0"
namespace = "team-a"
deployment = "production"
witness_file = "/var/lib/lapse/witness"
allow_volatile = true
replicas = "auto"
tls_ca = "/etc/ssl/ca.pem"
tls_verify = false

[celery]
broker_url = "rediss://user:pass@127.0.0.1:6379/1?ssl_ca_certs=/ca.pem"

[schedule]
sweep = "5m"
orphans = "2h"

[sweep]
budget = "40s"
lease = "3m"
batch = 50
max_attempts = 5
tombstones = "14d"
deleted_tombstones = "3d"
outbox = "/var/lib/lapse/outbox"
ramp = "off"

[audit]
sink = "file:/var/log/lapse.jsonl"
max_pending = 5000
key_file = "/run/secrets/seal"
subjects = "hmac"

[erasure]
by_application = false
rate = { amount = 10, window = "1h" }
late = "1d"
records = "400d"
due = "30d"

[limits]
max_deletions = { amount = 100, window = "10m" }
max_newly_due = { percent = 2.5, at_least = 7 }
max_already_gone = { percent = 40, at_least = 30 }

[providers.hosted]
type = "openai"
base_url = "https://llm.example.com/v1/"
api_key_file = "/run/secrets/key"
rate = "5/s"
concurrency = 8
not_found = ["Assistant not found", "no such thing {id}"]
ids = "opaque"
organization = "org-1"
project = "proj-1"
proof = "canary"

[providers.local]
type = "openai"
base_url = "http://models.internal:8000/v1"
api_key_env = "LOCAL_KEY"
rate = "unlimited"
allow_plaintext = true

[providers.azure]
type = "azure-openai"
base_url = "https://unit.openai.azure.com/openai"
auth = "entra"
api_version = "2025-03-01-preview"

[policies.support]
provider = "hosted"
kind = ["threads", "conversation"]
ttl = "7d"
anchor = "last_active_at"
max_age = "365d"
formerly = ["support-v1", "archive"]
every = "10m"
touches = "none"
expect_gone = true
mode = "enforce"
max_deletions = "unlimited"
max_newly_due = { percent = 5, at_least = 10 }
max_already_gone = "unlimited"
keep = [{ metadata = { pin = "true", team = "a*" } }, { metadata = { legal = "*" } }]
cascade = { conversation_item = "leave", response = "delete" }

[policies.files]
provider = "hosted"
kind = "file"
expires_after = { anchor = "created_at", days = 3 }
max_deletions = { amount = 7, window = "30s" }

[policies.runs]
provider = "azure"
kind = "thread"
expires_after = { anchor = "last_active_at", hours = 36 }
cancel = true

[policies.minutes]
provider = "local"
kind = "vector_store"
expires_after = { anchor = "created_at", minutes = 90 }
keep = [{ name = "prod-*", metadata = { b = "2", a = "1" } }, { name = "prod-*" }, { name = "old", metadata = {} }]
cascade = { file = "protect" }

[policies.idle]
provider = "local"
kind = "assistant"
orphan = { min_age = "2d", seen = 4, max_share = { percent = 12.5, at_least = 3 }, uses = "none" }
keep = [{ name = "prod-*" }]

[policies.unused]
provider = "hosted"
kind = "assistant"
orphan = { min_age = "1d", max_share = "unlimited" }

[policies.seconds]
provider = "azure"
kind = "file"
expires_after = { anchor = "created_at", seconds = 86400 }
"""
ROUTED = EVERY_KEY.replace('auth = "entra"', 'auth = "entra"\nproxy = "env"\nca_file = "/etc/ssl/llm.pem"')
ROUTED = ROUTED.replace("[schedule]", '[celery.broker_transport_options]\nregion = "eu-west-1"\n\n[schedule]')
OPENED = ROUTED.replace(
    "tls_verify = false\n",
    'tls_verify = false\npassword_file = "/run/secrets/redis"\nsentinel_password_file = "/run/secrets/sentinel"\n',
)
SIGNED = ROUTED.replace(
    "tls_verify = false\n",
    'tls_verify = false\nauth = "iam"\niam = { cache = "lapse", broker_cache = "b", region = "r",'
    ' service = "elasticache", serverless = true }\n',
)
RULES = {
    "azure/file/seconds": "aa234a2d9945",
    "azure/thread/runs": "7feeb2671e29",
    "hosted/assistant/unused": "96f9fabe8740",
    "hosted/conversation/support": "f22023c6c66e",
    "hosted/file/files": "e760feecde2c",
    "hosted/thread/support": "1c9848abbd18",
    "local/assistant/idle": "02a484e90656",
    "local/vector_store/minutes": "c47086f5a24e",
}
RECORDED = {
    SMALLEST: ("055ac6d867f5", {"openai/conversation/chat": "decfe45b30b8"}, "56afc7cb1bb8"),
    EVERY_KEY: ("81eaa73e2f07", RULES, "b32b2d797837"),
    ROUTED: ("30e9cc45af18", RULES, "b32b2d797837"),
    OPENED: ("dec36faf5a36", RULES, "b32b2d797837"),
    SIGNED: ("d007d07b6bd2", RULES, "b32b2d797837"),
}


@pytest.mark.parametrize(
    ("text", "recorded"), RECORDED.items(), ids=["smallest", "every key", "routed", "opened", "signed"]
)
def test_a_file_has_the_digests_and_stored_rules_it_always_had(
    text: str, recorded: tuple[str, dict[str, str], str]
) -> None:
    config = parse(text, "retention.toml", {}, today=date(2026, 6, 1))
    stored = enforced.text(0, [enforced.stored(rule) for rule in config.rules])

    assert recorded == (
        config.hash,
        {str(rule.partition): rule.digest for rule in config.rules},
        hashlib.sha256(stored.encode()).hexdigest()[:12],
    )


NEWER = (
    ('replicas = "auto"', "replicas = 1"),
    ('subjects = "hmac"', 'subjects = "plain"'),
    ("by_application = false", "by_application = true"),
    ("amount = 10,", "amount = 11,"),
    ('late = "1d"', 'late = "2d"'),
    ('records = "400d"', 'records = "30d"'),
    ('due = "30d"', 'due = "20d"'),
)


@pytest.mark.parametrize(("line", "by"), NEWER)
def test_a_key_that_is_newer_than_stored_digests_counts_where_it_is_set(line: str, by: str) -> None:
    set_ = parse(EVERY_KEY.replace(line, by), "retention.toml", {}, today=date(2026, 6, 1))

    assert set_.hash not in {recorded[0] for recorded in RECORDED.values()}
    assert {str(rule.partition): rule.digest for rule in set_.rules} == RECORDED[EVERY_KEY][1]


def test_the_key_of_receipts_is_no_part_of_what_workers_go_by() -> None:
    """Whoever issues receipts has the workers' policies, and says their hash."""
    text = EVERY_KEY.replace("[erasure]", '[receipts]\nkey_file = "/run/secrets/receipts"\n[erasure]')
    assert parse(text, "retention.toml", {}, today=date(2026, 6, 1)).hash == RECORDED[EVERY_KEY][0]


def test_every_key_there_is_has_been_recorded() -> None:
    for name, definition in schema()["definitions"].items():
        for key in definition["properties"]:
            assert re.search(rf"\b{key} = |\.{key}\]", OPENED + SIGNED), (name, key)
