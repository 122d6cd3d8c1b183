"""What a policy file must not say: every mistake is refused on its own line, all of them at once, and nothing leaks."""

import re
from collections.abc import Iterator

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, parse

FULL = """\
[registry]
url = "redis://:hunter2@127.0.0.1:6379/0"
auth = "iam"
sentinel_password_file = "/run/secrets/sentinel"
namespace = "team-a"
deployment = "production"
allow_volatile = true
tls_ca = "/etc/ssl/ca.pem"
tls_verify = false
[registry.iam]
cache = "lapse"
broker_cache = "wake-ups"
region = "eu-west-1"
service = "elasticache"
serverless = false
[celery]
broker_url = "amqp://lapse:hunter2@127.0.0.1:5672"
broker_transport_options = { secret = "hunter2" }
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
[erasure]
by_application = false
late = "12h"
records = "90d"
due = "20d"
[erasure.rate]
amount = 5
window = "2h"
[receipts]
key_file = "/run/secrets/receipts"
[limits.max_deletions]
amount = 100
window = "10m"
[limits.max_newly_due]
percent = 12.5
at_least = 3
[providers.local]
type = "openai"
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "LOCAL_KEY"
rate = "5/s"
concurrency = 8
not_found = ["Assistant not found"]
organization = "org-1"
project = "proj-1"
allow_plaintext = false
proxy = "http://lapse:hunter2@127.0.0.1:3128"
ca_file = "/etc/ssl/llm.pem"
[policies.support]
provider = "local"
kind = ["threads", "conversation"]
ttl = "7d"
anchor = "last_active_at"
max_age = "365d"
formerly = ["support-v1"]
every = "10m"
touches = "none"
expect_gone = true
cancel = false
mode = "enforce"
keep = [{ metadata = { pin = "true" } }]
max_deletions = "unlimited"
max_newly_due = { percent = 5, at_least = 10 }
[policies.support.cascade]
conversation_item = "leave"
[policies.pasted]
kind = "conversation"
[policies.pasted.expires_after]
anchor = "created_at"
days = 3
[policies.idle]
kind = "assistant"
[policies.idle.orphan]
min_age = "2d"
seen = 4
max_share = "unlimited"
uses = "none"
[[policies.idle.keep]]
name = "prod-*"
[[policies.idle.keep]]
metadata = { pin = "true" }
"""
LINES = FULL.splitlines()
WRONG = ("0", "-1", '""', '"  "', "30", "1.5", "true", "[]", "{}", '"x\\ny"', "nan", "1979-05-27", '"nonsense \\\\ !"')
# What is right after all, by key: everything else in WRONG is refused for every key.
RIGHT = {
    "allow_volatile": {"true"},
    "replicas": {"0"},
    "tls_verify": {"true"},
    "allow_plaintext": {"true"},
    "expect_gone": {"true"},
    "cancel": {"true"},
    "by_application": {"true"},
    "batch": {"30"},
    "max_attempts": {"30"},
    "concurrency": {"30"},
    "amount": {"30"},
    "at_least": {"30"},
    "seen": {"30"},
    "percent": {"30", "1.5"},
    "days": {"30"},
    "not_found": {"[]"},
    "formerly": {"[]"},
    "keep": {"[]"},
    "key_file": {'"nonsense \\\\ !"'},
    "ca_file": {'"nonsense \\\\ !"'},
    "broker_transport_options": {"{}"},
    "tls_ca": {'"nonsense \\\\ !"'},
    "cache": {'"nonsense \\\\ !"'},
    "broker_cache": {'"nonsense \\\\ !"'},
    "region": {'"nonsense \\\\ !"'},
    "serverless": {"true"},
    "sentinel_password_file": {'"nonsense \\\\ !"'},
    "organization": {'"nonsense \\\\ !"'},
    "project": {'"nonsense \\\\ !"'},
    "api_version": {'"nonsense \\\\ !"'},
    "name": {'"  "', '"x\\ny"', '"nonsense \\\\ !"'},
}


def read(text: str, **environ: str) -> Config:
    return parse(text, "config/retention.toml", environ)


def refused(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, **environ)
    return str(caught.value).splitlines()


def keys() -> Iterator[tuple[int, str, str]]:
    """Yield line number, full key and last key of every key of the full file."""
    table = ""
    for number, line in enumerate(LINES, start=1):
        if header := re.fullmatch(r"\[+(.*?)\]+", line):
            table = header[1]
        else:
            key = line.split(" = ")[0]
            yield number, f"{table}.{key}", key


def replaced(number: int, line: str) -> str:
    return "\n".join([*LINES[: number - 1], line, *LINES[number:]])


MUTATIONS = [
    (number, full, f"{key} = {wrong}")
    for number, full, key in keys()
    for wrong in WRONG
    if wrong not in RIGHT.get(key, ())
]


def test_the_full_file_is_right() -> None:
    assert 5 == len({rule.partition for rule in read(FULL).rules} | {None})


@pytest.mark.parametrize("part", range(8))
def test_every_wrong_value_of_every_key_is_refused_on_its_line(part: int) -> None:
    assert len(MUTATIONS) > 600
    for number, full, line in MUTATIONS[part::8]:
        told = refused(replaced(number, line))
        key = re.sub(r"\.keep\..*", ".keep", full)
        assert any(one.startswith(f"config/retention.toml:{number}: {key}") for one in told), (line, told)
        assert "hunter2" not in "".join(told)


def test_what_is_right_after_all_is_accepted() -> None:
    for number, full, key in keys():
        for right in RIGHT.get(key, ()):
            assert read(replaced(number, f"{key} = {right}")).rules, full


@pytest.mark.parametrize(("number", "full", "key"), list(keys()), ids=str)
def test_a_mistyped_key_is_refused_with_the_right_one(number: int, full: str, key: str) -> None:
    """Keys of free names (metadata, cascade) are no keys of ours."""
    mistyped = f"{key[:-1]}{'q' if key[-1] != 'q' else 'z'}"
    told = refused(replaced(number, LINES[number - 1].replace(key, mistyped, 1)))

    mine = [line for line in told if line.startswith(f"config/retention.toml:{number}: ")]
    assert any(mistyped in line for line in mine), told
    if full != "policies.support.cascade.conversation_item":
        assert any("is no key of this table" in line for line in mine), told


@pytest.mark.parametrize(("number", "full", "key"), list(keys()), ids=str)
def test_a_key_without_quotes_or_value_is_refused_with_its_line(number: int, full: str, key: str) -> None:
    for line in (f"{key} =", f"{key} = hunter2 x", f"{key} = 'open", f'{key} = "a" "b"', key):
        (told,) = refused(replaced(number, line))
        assert told.startswith(f"config/retention.toml:{number}: "), told
        assert "is not TOML" in told
        assert "hunter2" not in told
        assert full


@pytest.mark.parametrize(("number", "full", "key"), list(keys()), ids=str)
def test_a_key_written_twice_is_refused_with_both_lines(number: int, full: str, key: str) -> None:
    (told,) = refused("\n".join([*LINES[:number], f"{key} = 1", *LINES[number:]]))

    assert told.startswith(f"config/retention.toml:{number + 1}: ")
    assert f"is written a second time (first on line {number})" in told
    assert key in told
    assert full


BASE = 'base_url = "http://127.0.0.1:8000/v1"'
PROXY = 'proxy = "http://lapse:hunter2@127.0.0.1:3128"'
SHARE = "max_newly_due = { percent = 5, at_least = 10 }"
REQUIRED = (
    "type",
    "api_key_env",
    "kind",
    "ttl",
    "anchor",
    "days",
    "min_age",
    "amount",
    "window",
    "percent",
    "at_least",
)


@pytest.mark.parametrize("key", REQUIRED)
def test_what_has_no_default_is_missed_where_it_should_stand(key: str) -> None:
    number, full, _ = next(found for found in keys() if found[2] == key)
    table = max(at for at, line in enumerate(LINES[:number], start=1) if line.startswith("["))

    told = refused(replaced(number, ""))

    assert any(
        re.match(rf"config/retention\.toml:{table}: {re.escape(full.rpartition('.')[0])}", line) for line in told
    )


@pytest.mark.parametrize(
    ("line", "by", "said"),
    [
        ('ttl = "7d"', 'ttl = "7d"\napi_key = "sk-hunter2"', "is no key of this table"),
        ('type = "openai"', 'type = "openai"\napi_key = "sk-hunter2"', "a credential is never written here"),
        ('type = "openai"', 'type = "openai"\ntoken = "sk-hunter2"', "a credential is never written here"),
        ('type = "openai"', 'type = "openai"\nttl = "1d"', "it belongs into [policies.NAME]"),
        ('ttl = "7d"', 'ttl = "7d"\nmax_attempts = 1', "it belongs into [sweep]"),
        ('ttl = "7d"', 'ttl = "7d"\nrate = "1/s"', "it belongs into [providers.NAME] or [erasure]"),
        ("cancel = false", "cancel = false\nlate = '1d'", "it belongs into [erasure]"),
        ('type = "openai"', 'type = "langgraph"', "organization: is nothing that type langgraph knows: leave it out"),
        ('type = "openai"', 'type = "foundry"', "project: is nothing that type foundry knows: leave it out"),
        ('type = "openai"', 'type = "openai"\napi_version = "v1"', "is nothing that type openai knows: leave it out"),
        ('type = "openai"', 'type = "opnai"', 'did you mean "openai"?'),
        ('type = "openai"', 'type = "openai"\nauth = "entra"', "use api_key_env, or api_key_file"),
        (BASE, 'base_url = "http://10.0.0.1/v1"', "allow_plaintext = true"),
        (BASE, 'base_url = "http://localhost.evil.com/v1"', "allow_plaintext = true"),
        (BASE, 'base_url = "http://127.0.0.1.evil.com/v1"', "allow_plaintext = true"),
        (PROXY, 'proxy = "http://lapse:hunter2@proxy.example.com:3128"', "proxy: would send the key readable"),
        (
            PROXY,
            'proxy = "socks5://lapse:hunter2@127.0.0.1:1080"',
            "is not an HTTP proxy: write it as http://HOST:3128",
        ),
        (PROXY, 'proxy = "http://lapse:hunter2@127.0.0.1"', 'special characters as %XX; or "env"'),
        (PROXY, 'proxy = "http://lapse:hunter2@127.0.0.1:3128/x"', "has more than a host and a port"),
        (PROXY, 'proxy = ["http://lapse:hunter2@127.0.0.1:3128"]', "proxy: "),
        (BASE, 'base_url = "https://u:hunter2@h/v1"', "credentials belong into"),
        (BASE, 'base_url = "https://h/v1?key=hunter2"', "has a query or fragment"),
        (BASE, 'base_url = "https://h/v1#"', "has a query or fragment"),
        (BASE, 'base_url = "https:///v1"', "names no host"),
        (BASE, 'base_url = "https://h:99999/v1"', "is not a URL"),
        (BASE, 'base_url = "https://[::1/v1"', "is not a URL"),
        (BASE, 'base_url = "ftp://h/v1"', "begins with https:// or http://"),
        (BASE, 'base_url = "https://api.openai.com/v1"', "2026-08-26"),
        (BASE, 'base_url = "https://EU.api.openai.com./v1"', "conversation"),
        ('url = "redis://:hunter2@127.0.0.1:6379/0"', 'url = "redis://:hun#ter2@h:6379/0"', "is not a"),
        ('url = "redis://:hunter2@127.0.0.1:6379/0"', 'url = "redis://:hunter2@h:6379/zero"', "not a number"),
        ('url = "redis://:hunter2@127.0.0.1:6379/0"', 'url = "redis:///0"', "names no host"),
        ('url = "redis://:hunter2@127.0.0.1:6379/0"', 'url = "unix://"', "names no socket"),
        ('url = "redis://:hunter2@127.0.0.1:6379/0"', 'url = "redis://h/hunter2 x"', "is not a URL"),
        ('api_key_env = "LOCAL_KEY"', 'api_key_env = "sk-hunter2"', "is not the name of an environment variable"),
        ('rate = "5/s"', 'rate = "5"', 'such as "60/m"'),
        ('rate = "5/s"', 'rate = "0.0/m"', "allows nothing at all"),
        ('rate = "5/s"', 'rate = "-1/m"', 'such as "60/m"'),
        ('not_found = ["Assistant not found"]', 'not_found = ["Not Found"]', "the whole endpoint is missing"),
        ('not_found = ["Assistant not found"]', 'not_found = ["{id}"]', "the whole endpoint is missing"),
        ('not_found = ["Assistant not found"]', 'not_found = [""]', "is blank"),
        ('provider = "local"', 'provider = "loacl"', 'did you mean "local"?'),
        ('kind = ["threads", "conversation"]', 'kind = ["threda"]', "did you mean"),
        ('kind = ["threads", "conversation"]', 'kind = ["thread", "threads"]', "one kind twice"),
        ('kind = ["threads", "conversation"]', "kind = [7]", "is not a kind"),
        ('ttl = "7d"', 'ttl = "7d"\norphan = { min_age = "1d" }', "stands beside ttl"),
        ('ttl = "7d"', 'ttl = "7d"\nexpires_after = { anchor = "created_at", days = 1 }', "stands beside ttl"),
        ('max_age = "365d"', 'max_age = "6d"', "of 6d is shorter than the ttl of 7d"),
        ('formerly = ["support-v1"]', 'formerly = ["idle"]', "is a policy of this file"),
        ('formerly = ["support-v1"]', 'formerly = ["a", "a"]', "is claimed twice for"),
        ('formerly = ["support-v1"]', 'formerly = ["not a name"]', "use 1 to 64 characters"),
        ('mode = "enforce"', 'mode = "enforced"', 'did you mean "enforce"?'),
        ('mode = "enforce"', 'mode = "enforce"\norphen = 1', 'did you mean "orphan"?'),
        ('touches = "none"', 'touches = "unlimited"', "is not a choice: there is none"),
        ('kind = "conversation"', 'kind = "conversation"\ncancel = true', "nothing that runs on conversations can be"),
        ('conversation_item = "leave"', 'conversation_item = "protect"', 'write "delete" or "leave"'),
        ('conversation_item = "leave"', 'thread = "delete"', "no thread belongs to a thread, conversation"),
        ('conversation_item = "leave"', 'skill = "delete"', "is not known"),
        ('max_deletions = "unlimited"', 'max_deletions = "none"', 'or "unlimited"'),
        ('min_age = "2d"', 'min_age = "2d"\n[policies.x]\nkind = "conversation"\norphan = 3', "is not a table"),
        ("max_newly_due = { percent = 5, at_least = 10 }", "max_newly_due = { percent = 5 }", "is missing"),
        ("max_newly_due = { percent = 5, at_least = 10 }", "max_newly_due = { percnt = 5, at_least = 1 }", '"percent"'),
        ('keep = [{ metadata = { pin = "true" } }]', "keep = [{}]", "a blank does not mean everything"),
        ('keep = [{ metadata = { pin = "true" } }]', 'keep = [{ name = "x" }]', "threads have no name"),
        ('keep = [{ metadata = { pin = "true" } }]', 'keep = [{ metadata = { pin = "" } }]', "is blank"),
        ('kind = "assistant"', 'kind = "conversation"', "cannot be listed"),
        ("seen = 4", "seen = 1", "at least 2"),
        ("days = 3", "days = 3\nhours = 1", "exactly one of days, hours, minutes, seconds"),
        ("days = 3", "seconds = 99999999999", "longer than 100 years"),
        ('min_age = "2d"', 'min_age = "2d"\n[policies.idle2]\nkind = "conversation"\norphan = 3', "is not a table"),
        ('lease = "3m"', 'lease = "1s"', "at least 2s"),
        ('sink = "file:/var/log/lapse.jsonl"', 'sink = "file:"', 'write "stdout" or "file:PATH"'),
        ("max_pending = 5000", 'max_pending = 5000\nkey_file = ""', "is blank"),
        ("max_pending = 5000", 'max_pending = 5000\nkey_file = "/run/secrets/receipts"', "is the one of [audit]"),
        ('late = "12h"', 'late = "31d"', "of 31d is out of bounds: at most 30d"),
        ('records = "90d"', 'records = "23h"', "of 23h is out of bounds: at least 1d"),
        ('due = "20d"', 'due = "8h"', "of 8h is out of bounds: at least 1d"),
        ('due = "20d"', 'due = "93d"', "of 93d is out of bounds: at most 92d"),
        ("amount = 5", "amount = 0", "at least 1"),
        ("amount = 5", "amout = 5", 'did you mean "amount"?'),
    ],
)
def test_each_mistake_has_its_sentence(line: str, by: str, said: str) -> None:
    assert line in LINES
    changed = FULL.replace(f"{line}\n", f"{by}\n", 1)

    told = refused(changed)

    first = LINES.index(line) + 1
    where = [one for one in told if said in one]
    assert where, told
    assert first - 14 <= int(where[0].split(":")[1]) <= first + 24 + by.count("\n")
    assert "hunter2" not in "\n".join(told)
    assert "hun#ter2" not in "\n".join(told)


@pytest.mark.parametrize("value", ['"unlimited"', '""', "0", "{}", '"10/1h"', '{ amount = 0, window = "1h" }'])
def test_requests_of_applications_are_never_without_a_pace(value: str) -> None:
    told = refused(f"[erasure]\nrate = {value}\n" + FULL[FULL.index("[limits.") :])

    assert all(line.startswith("config/retention.toml:2: erasure.rate") for line in told)


def test_a_provider_may_be_called_like_a_key() -> None:
    told = refused(FULL.replace("local", "rate").replace("project =", "projct ="))

    assert [line.rpartition(": ")[2] for line in told] == ['did you mean "project"?']


def test_a_container_cannot_be_kept_by_a_look_at_it_but_by_what_a_list_shows() -> None:
    """Reading one keeps it alive."""
    policy = (
        '[providers.o]\ntype = "openai"\napi_key_env = "K"\n[policies.c]\nkind = "container"\nkeep = [{ name = "x" }]\n'
    )

    told = refused(f'{policy}ttl = "1d"\nanchor = "created_at"\n')

    why = "would have every one of the containers read, which keeps it alive: use an orphan rule, or hold"
    assert [f"config/retention.toml:6: policies.c.keep: {why}"] == told
    assert read(f'{policy}orphan = {{ min_age = "1d" }}\n').rules


def test_a_provider_is_not_called_as_the_brokers_keys_are() -> None:
    (told,) = refused(FULL.replace("[providers.local]", "[providers.broker]").replace('= "local"', '= "broker"'))
    at = LINES.index("[providers.local]") + 1
    assert f"config/retention.toml:{at}: providers.broker: provider 'broker': that is what Celery's own keys" in told


@pytest.mark.parametrize(("kind", "makes"), [("file", False), ("thread", True), ('["file", "thread"]', True)])
def test_a_canary_needs_a_kind_that_can_be_made(kind: str, *, makes: bool) -> None:
    named = kind if kind.startswith("[") else f'"{kind}"'
    text = (
        '[providers.o]\ntype = "openai"\nbase_url = "https://llm.example.com/v1"\napi_key_env = "K"\n'
        f'proof = "canary"\n[policies.c]\nkind = {named}\nttl = "1d"\nanchor = "created_at"\n'
    )
    if makes:
        assert "canary" == read(text).accounts["o"].proof
        return
    why = "has no meaning for file: of its kinds lapse can make conversation, thread, vector_store alone; leave it out"
    assert [f"config/retention.toml:5: providers.o.proof: {why}"] == refused(text)
