"""What opens the registry's Redis and the broker's, by the policy file."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, parse
from lapse.policy.reload import Source, broker_source, registry_source
from lapse.registry.pools.credentials.password_file import PasswordFile

GOOD = """
[providers.openai]
type = "openai"
api_key_env = "K"
[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "created_at"
"""
NONE: Mapping[str, str] = MappingProxyType({})
SENTINELS = "redis+sentinel://app@a,b/main?sentinel_username=watcher"


@pytest.fixture
def files(tmp_path: Path) -> str:
    """Return two keys of [registry], each with a file that is there."""
    (tmp_path / "own").write_text("own-password\n")
    (tmp_path / "sentinel").write_text("their-password")
    return f'password_file = "{tmp_path}/own"\nsentinel_password_file = "{tmp_path}/sentinel"\n'


def config(registry: str, celery: str = "", environ: Mapping[str, str] = NONE) -> Config:
    return parse(f"[registry]\n{registry}\n[celery]\n{celery}\n{GOOD}", "retention.toml", environ)


def said(source: Source) -> tuple[object, object]:
    pair = (source.credentials, source.sentinels)
    return tuple(one.get_credentials() if one else None for one in pair)  # type: ignore[return-value]


def test_a_file_opens_the_registry_and_the_broker_that_it_is(files: str) -> None:
    for environ, text in ((NONE, 'url = "redis://app@a:1/0"\n'), ({"REDIS_URL": "redis://app@a:1/0"}, "")):
        read = config(text + files)
        for source in (registry_source(read, environ), broker_source(read, environ)):
            assert (("app", "own-password"), None) == said(source)
            assert "redis://app@a:1/0" == source.endpoint.url
            assert source.credentials is source.endpoint.credentials
            assert "password" not in repr(source)


def test_sentinels_have_a_file_of_their_own(files: str) -> None:
    assert (("app", "own-password"), ("watcher", "their-password")) == said(
        registry_source(config(f'url = "{SENTINELS}"\n{files}'), NONE)
    )


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("redis://b:2/1", (("own-password",), None)),
        ("redis://u:p@b:2/1", (None, None)),
        ("redis+sentinel://u@b/main", (("u", "own-password"), ("their-password",))),
        ("redis+sentinel://u:p@b/main?sentinel_password=s", (None, None)),
        ("unix:///run/redis.sock?db=1", (("own-password",), None)),
        ("amqp://u@b", (None, None)),
    ],
)
def test_a_broker_of_its_own_is_opened_by_it_where_its_url_has_no_password(
    files: str, url: str, opened: tuple[object, object]
) -> None:
    read = config(f'url = "redis://app@a:1/0"\n{files}', f'broker_url = "{url}"')
    assert opened == said(broker_source(read, NONE))


def test_without_files_the_urls_say_it() -> None:
    read = config(f'url = "{SENTINELS}&sentinel_password=s"')
    assert (None, None) == said(registry_source(read, NONE))


@pytest.mark.parametrize(
    ("url", "key", "why"),
    [
        ("redis://u:p@a", "password_file", "is set, and the registry's URL has a password too"),
        (f"{SENTINELS}&sentinel_password=s", "sentinel_password_file", "has a sentinel_password too"),
        ("redis://u@a", "password_file", "cannot be read"),
        (SENTINELS, "sentinel_password_file", "cannot be read"),
    ],
)
def test_what_does_not_go_together_is_said_of_the_key(tmp_path: Path, url: str, key: str, why: str) -> None:
    file = tmp_path / "file"
    if "too" in why:
        file.write_text("hunter22")
    with pytest.raises(ConfigError) as refused:
        registry_source(config(f'url = "{url}"\n{key} = "{file}"'), NONE)
    assert str(refused.value).startswith(f"[registry] {key} ")
    assert why in str(refused.value)
    assert "hunter22" not in str(refused.value)


def test_the_file_of_a_registry_may_be_named_by_a_variable(files: str, tmp_path: Path) -> None:
    environ = {"LAPSE_REGISTRY__PASSWORD_FILE": f"{tmp_path}/own", "REDIS_URL": "redis://a"}
    read = config("", environ=environ)
    assert (
        PasswordFile(tmp_path / "own", None, "[registry] password_file") == registry_source(read, environ).credentials
    )
