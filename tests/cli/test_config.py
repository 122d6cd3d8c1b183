"""init, check-config and schema."""

import json
from pathlib import Path

import pytest

from lapse import policy
from support.commandline import CHAT, ENFORCED, HEAD, Desk

SHIPPED = Path(__file__).parents[2] / "config" / "retention.toml"

EVERY_KIND_OF_POLICY = """
[policies.chat]
kind = ["conversation", "thread"]
ttl = "30d"
anchor = "last_active_at"
max_age = "365d"
mode = "enforce"
[policies.idle-assistants]
kind = "assistant"
orphan = { min_age = "2d", seen = 3 }
keep = [{ name = "prod-*" }, { metadata = { pin = "true", team = "a*" } }]
"""


def test_init_writes_the_shipped_file_and_says_what_comes_next(desk: Desk) -> None:
    desk.config.unlink()
    desk.config.parent.rmdir()

    shown = desk.good("init")

    assert "config/retention.toml\n" == shown.out
    assert f"#:schema ./retention.schema.json\n{SHIPPED.read_text()}" == desk.config.read_text()
    assert policy.schema() == json.loads(desk.config.with_name("retention.schema.json").read_text())
    assert "config/retention.schema.json is for editors: the first line of config/retention.toml names it." in shown.err
    assert "lapse check-config" in shown.err
    assert "celery -A lapse.app worker --beat" in shown.err


def test_what_init_wrote_is_valid_without_any_key_in_the_environment(desk: Desk) -> None:
    desk.config.unlink()
    desk.good("init")
    del desk.environ["OPENAI_API_KEY"], desk.environ["REDIS_URL"]

    shown = desk.good("check-config")

    assert "openai/conversation/chat: deletes conversations 30d after last activity; observing" in shown.lines
    assert "OPENAI_API_KEY is not set here" in shown.err
    assert "which Redis holds the registry?" in shown.err


def test_a_key_for_the_audit_that_cannot_be_used_is_told(desk: Desk) -> None:
    """The file may be on the workers' hosts alone: it is no reason to refuse the policy file."""
    desk.configure(ENFORCED, head=HEAD.replace("[audit]", '[audit]\nkey_file = "{directory}/audit.key"'))

    assert "audit.key cannot be read (No such file or directory)" in desk.good("check-config").err


def test_init_never_overwrites(desk: Desk) -> None:
    before = desk.config.read_text()
    shown = desk.run("init")
    assert (2, "") == (shown.code, shown.out)
    assert "is there already" in shown.err
    assert "--config PATH" in shown.err
    assert before == desk.config.read_text()


def test_init_writes_where_it_is_told(desk: Desk) -> None:
    assert "deep/er/lapse.toml\n" == desk.good("init", "--config", "deep/er/lapse.toml").out
    written = (desk.directory / "deep/er/lapse.toml").read_text()
    assert f"#:schema ./lapse.schema.json\n{SHIPPED.read_text()}" == written
    assert (desk.directory / "deep/er/lapse.schema.json").is_file()


def test_a_name_with_a_space_is_written_as_an_address(desk: Desk) -> None:
    desk.good("init", "--config", "our policies.toml")
    first = (desk.directory / "our policies.toml").read_text().splitlines()[0]
    assert "#:schema ./our%20policies.schema.json" == first
    assert (desk.directory / "our policies.schema.json").is_file()


@pytest.mark.parametrize("there", ["{}", "no JSON", '{"title": "of somebody else"}'])
def test_another_schema_stays_as_it_is_and_is_told(desk: Desk, there: str) -> None:
    beside = desk.directory / "new.schema.json"
    beside.write_text(there)
    shown = desk.good("init", "--config", "new.toml")
    assert "new.toml\n" == shown.out
    assert "new.schema.json is there already, is not this version's schema, and stays as it is" in shown.err
    assert "`lapse schema > new.schema.json`" in shown.err
    assert there == beside.read_text()


def test_the_same_schema_is_nothing_to_tell(desk: Desk) -> None:
    beside = desk.directory / "new.schema.json"
    beside.write_text(desk.good("schema").out)  # one line: the same value in other bytes
    assert "schema" not in desk.good("init", "--config", "new.toml").err
    assert 1 == len(beside.read_text().splitlines())


def test_a_schema_that_cannot_be_written_is_told_and_the_policy_file_stands(desk: Desk) -> None:
    name = f"{'n' * 246}.toml"  # a name of 255 bytes is the longest there is
    shown = desk.good("init", "--config", name)
    assert ".schema.json cannot be written: File name too long" in shown.err
    assert (desk.directory / name).is_file()


def test_a_link_to_nowhere_is_no_schema(desk: Desk) -> None:
    (desk.directory / "new.schema.json").symlink_to("nowhere/at/all.json")
    assert "new.schema.json is there already" in desk.good("init", "--config", "new.toml").err


def test_init_says_why_it_cannot_write(desk: Desk) -> None:
    (desk.directory / "occupied").write_text("a file")
    shown = desk.run("init", "--config", "occupied/lapse.toml")
    assert 2 == shown.code
    assert "cannot be written" in shown.err


def test_check_config_says_in_a_sentence_what_each_policy_does(desk: Desk) -> None:
    desk.configure(EVERY_KIND_OF_POLICY)
    lines = desk.good("check-config").lines
    capped = "30d after last activity, at the latest 365d after creation; enforcing"
    assert f"openai/thread/chat: deletes threads {capped}" in lines
    assert f"openai/conversation/chat: deletes conversations {capped}" in lines
    assert (
        "openai/assistant/idle-assistants: deletes assistants that nothing uses, 2d after creation at the earliest,"
        ' once 3 complete listings in a row showed them unused, never those named "prod-*" or with pin = "true" and'
        ' with team = "a*"; observing'
    ) in lines


def test_check_config_says_what_goes_along(desk: Desk) -> None:
    desk.configure(CHAT.replace("ttl =", 'cascade = { file = "delete", vector_store = "protect" }\nttl ='))
    lines = desk.good("check-config").lines
    timed = "7d after creation"
    family = "with their files that are ours and that nothing else uses, never those with a vector_store"
    assert f"openai/thread/chat: deletes threads {timed}, {family}; observing" in lines
    assert f"openai/conversation/chat: deletes conversations {timed}; observing" in lines


def test_check_config_says_who_is_asked_and_how_fast(desk: Desk) -> None:
    desk.configure(CHAT, rate='"90/m"')
    (account, *_) = desk.good("check-config").lines
    assert f"openai: type openai at {desk.sandbox.url}, key from OPENAI_API_KEY, 90/m, 16 at a time" == account


def test_check_config_lists_every_problem_with_its_line(desk: Desk) -> None:
    desk.configure('[policies.chat]\nkind = "treads"\nttl = 7\nanchr = "created_at"\n')
    line = HEAD.count("\n") + 1
    shown = desk.run("check-config")
    assert (2, "") == (shown.code, shown.out)
    for number, text in (
        (1, "kind"),
        (2, 'ttl: 7 has no unit: write a duration such as "30d"'),
        (3, 'did you mean "anchor"?'),
    ):
        assert any(f":{line + number}: " in one and text in one for one in shown.err.splitlines()), (number, shown.err)


def test_check_config_as_json(desk: Desk) -> None:
    desk.configure(EVERY_KIND_OF_POLICY)
    shown = desk.good("check-config", "--json").json
    assert ["observe", "enforce", "enforce"] == [policy["mode"] for policy in shown["policies"]]
    assert {"openai"} == {policy["provider"] for policy in shown["policies"]}
    assert 12 == len(shown["hash"])


def test_schema_is_one_json_document_that_names_every_table(desk: Desk) -> None:
    desk.config.unlink()
    schema = json.loads(desk.good("schema").out)
    assert {
        "registry",
        "celery",
        "schedule",
        "sweep",
        "audit",
        "receipts",
        "erasure",
        "limits",
        "providers",
        "policies",
    } == set(schema["properties"])


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_a_command_does_not_need_a_policy_file(desk: Desk, flag: str) -> None:
    desk.config.unlink()
    assert "Examples:" in desk.good("status", flag).out


def test_check_config_warns_of_canaries_where_any_delete_may_be_confirmed(desk: Desk) -> None:
    graph = HEAD.replace('type = "openai"', 'type = "langgraph"\nproof = "canary"')
    desk.configure(CHAT.replace('["conversation", "thread"]', '"thread"'), head=graph)

    shown = desk.good("check-config")

    assert 'proof = "canary" proves nothing where DELETE confirms what is not there too' in shown.err
    assert "lapse doctor --canary --confirm=" in shown.err


@pytest.mark.parametrize(
    ("registry", "broker", "used"),
    [
        ("redis://a", None, False),
        ("redis://a", "redis+sentinel://b/main?sentinel_password=s", False),
        ("redis://a", "amqp://b", False),
        ("redis+sentinel://a/main", None, True),
        ("redis://a", "redis+sentinel://b/main", True),
    ],
)
def test_check_config_warns_of_a_password_for_sentinels_that_nothing_asks(
    desk: Desk, tmp_path: Path, registry: str, broker: str | None, used: bool
) -> None:
    password = tmp_path / "sentinel"
    password.write_text("their-password")
    desk.environ |= {"LAPSE_REGISTRY__SENTINEL_PASSWORD_FILE": str(password), "LAPSE_REGISTRY__URL": registry}
    desk.environ |= {"LAPSE_CELERY__BROKER_URL": broker} if broker else {}

    said = desk.good("check-config").err

    assert used != ("LAPSE_REGISTRY__SENTINEL_PASSWORD_FILE is of no use: no redis+sentinel:// URL" in said)
