"""From bytes to a config: what is no file, no text or no TOML, what is told together, and what counts as the same."""

import os
from pathlib import Path

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, load, parse
from lapse.providers.kinds import DIALECTS, KINDS, Dialect, Kind


def read(text: str, **environ: str) -> Config:
    return parse(text, "config/retention.toml", environ)


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).splitlines()


SMALL = """
[providers.a]
type = "openai"
api_key_env = "K"
[policies.chat]
kind = "conversation"
ttl = "1d"
anchor = "created_at"
"""


POLICY = SMALL[SMALL.index("[pol") :]
TOGETHER: list[tuple[str, list[str]]] = [
    ("", ["policies: there is none"]),
    (
        SMALL.replace("[policies.chat]", "[polices.chat]"),
        ['polices: is no key of this table: did you mean "policies"?', "policies: there is none"],
    ),
    ("policies = 3", ["policies: 3 is not a table"]),
    (f"providers = 3\n{POLICY}", ["providers: 3 is not a table"]),
    (f'providers = 3\n{POLICY}provider = "x"', ["providers: 3 is not a table"]),
    (POLICY, ["policies.chat.provider: is missing: write [providers.NAME] first"]),
    (
        f'{SMALL}[providers.b]\ntype = "openai"\napi_key_env = "K2"',
        ["policies.chat.provider: is missing: write one of a, b"],
    ),
    (f"{SMALL}provider = 3", ["policies.chat.provider: 3 is not text"]),
    (f"{SMALL}[[policies.x]]", ["policies.x: an array is not a table"]),
    (f'{SMALL}[policies."a b"]', ["policies.\"a b\": name 'a b': use 1 to 64 characters"]),
    (f"{SMALL}[policies]\nttl = 3", ["policies.ttl: 3 is not a table"]),
    (
        SMALL.replace('"openai"', '"opnai"').replace('"1d"', "1"),
        ["providers.a.type", "policies.chat.ttl: 1 has no unit"],
    ),
    (
        SMALL.replace('ttl = "1d"', "orphan = { seen = 1 }").replace('anchor = "created_at"', 'max_age = "9d"'),
        ["policies.chat.orphan.min_age", "policies.chat.orphan.seen", "policies.chat.max_age: has no meaning"],
    ),
    (
        SMALL.replace('ttl = "1d"', 'orphan = { min_age = "1d" }'),
        ["policies.chat.anchor: has no meaning beside orphan", "conversations cannot be listed"],
    ),
    (SMALL.replace('"created_at"', "3").replace('"conversation"', '"thread"'), ["chat.anchor: 3", "2026-08-26"]),
    (SMALL.replace('type = "openai"\napi_key_env = "K"', ""), ["providers.a.type", "providers.a.api_key_env"]),
]


@pytest.mark.parametrize(("text", "said"), TOGETHER, ids=range(len(TOGETHER)))
def test_only_what_is_wrong_is_told_and_nothing_that_follows_from_it(text: str, said: list[str]) -> None:
    told = refused(text)

    assert len(said) == len(told), told
    assert all(any(part in line for line in told) for part in said), told


def test_a_policy_split_in_two_may_adopt_the_old_one_for_each_kind() -> None:
    split = SMALL.replace('created_at"', 'created_at"\nformerly = ["old"]').replace(
        "api_key_env", 'base_url = "https://h/v1"\napi_key_env'
    )
    split += '[policies.threads]\nkind = "thread"\nttl = "1d"\nanchor = "created_at"\nformerly = ["old"]\n'

    assert [("old",), ("old",)] == [rule.formerly for rule in read(split).rules]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", r":1: is not UTF-8"),
        (SMALL.encode() + b"# \xe4\n", r":9: is not UTF-8"),
        (b"x = " + b"[" * 5000, r":1: is nested too deeply"),
        (b"x" + b".x" * 2000 + b" = 1", r":1: (x: is no key|is nested too deeply)"),  # the latter from Python 3.15 on
        (b"x = " + b"9" * 5000, r"a number that is too long"),
        (b"#" * 1_000_001, r"larger than"),
        (b'"\\q" = 1', r":1: the file: is not TOML"),
        (b"\0", r":1: the file: is not TOML"),
        (b'a = """\nx', r":1: a: is not TOML"),
        (b"a = [1,\n2", r":1: a: is not TOML"),
    ],
    ids=range(10),
)
def test_what_is_no_text_and_no_toml_is_refused_and_breaks_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "retention.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        load(path, {})


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="is not a file"):
            load(path, {})
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read: No such file"):
        load(tmp_path / "missing.toml", {})


def test_a_file_is_called_by_its_path_below_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config" / "retention.toml"
    path.parent.mkdir()
    path.write_text(SMALL.replace('"1d"', "1"))
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=r"^config/retention\.toml:7: policies\.chat\.ttl: 1 has no unit"):
        load(path, {})
    monkeypatch.chdir(path.parent.parent / "config")
    with pytest.raises(ConfigError, match=r"^retention\.toml:7: "):
        load(path, {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=rf"^{path}:7: "):
        load(path, {})


def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())

    assert read(SMALL).rules == load(path, {}).rules


def test_a_kind_of_another_type_is_told_with_the_types_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more type in the table, as the next provider will be."""
    bare = Kind("thread", (), has_metadata=False)
    other = Dialect(kinds={"thread": bare}, key_example="KEY", example="https://h/v1")
    monkeypatch.setitem(DIALECTS, "other", other)
    monkeypatch.setitem(KINDS, "other", other.kinds)
    given = SMALL.replace('"openai"', '"other"\nbase_url = "https://h/v1"')

    assert refused(given) == [
        'config/retention.toml:7: policies.chat.kind: "conversation" is no kind of type other: there is thread'
    ]
    kept = given.replace('"conversation"', '"thread"') + 'keep = [{ metadata = { a = "b" } }]'
    assert refused(kept) == ["config/retention.toml:10: policies.chat.keep[0].metadata: threads have no metadata"]
