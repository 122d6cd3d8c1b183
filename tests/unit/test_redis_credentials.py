"""What opens the registry's Redis and the broker's, by the policy file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, parse
from lapse.policy.reload import DEFAULT, Source, broker_source, registry_source
from lapse.registry.pools.credentials.entra import RedisEntraCredentials
from lapse.registry.pools.credentials.iam import IamCredentials
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
    assert str(refused.value).startswith(f"{DEFAULT} [registry] {key} ")
    assert why in str(refused.value)
    assert "hunter22" not in str(refused.value)


def test_the_file_of_a_registry_may_be_named_by_a_variable(files: str, tmp_path: Path) -> None:
    environ = {"LAPSE_REGISTRY__PASSWORD_FILE": f"{tmp_path}/own", "REDIS_URL": "redis://a"}
    read = config("", environ=environ)
    assert (
        PasswordFile(tmp_path / "own", None, "LAPSE_REGISTRY__PASSWORD_FILE")
        == registry_source(read, environ).credentials
    )


@pytest.mark.parametrize("key", ["PASSWORD_FILE", "SENTINEL_PASSWORD_FILE"])
@pytest.mark.parametrize("of", [registry_source, broker_source])
def test_a_file_that_a_variable_names_is_told_by_the_variable(
    of: Callable[[Config, Mapping[str, str]], Source], key: str, tmp_path: Path
) -> None:
    environ = {f"LAPSE_REGISTRY__{key}": f"{tmp_path}/none", "REDIS_URL": SENTINELS}
    for celery in ("", f'broker_url = "{SENTINELS}"'):
        with pytest.raises(ConfigError, match=f"^LAPSE_REGISTRY__{key} {tmp_path}/none cannot be read"):
            of(config("", celery, environ), environ)


def test_what_a_variable_chose_is_told_by_the_variable() -> None:
    environ = {"LAPSE_REGISTRY__AUTH": "entra", "REDIS_URL": "rediss://u:p@a:1/0"}
    with pytest.raises(ConfigError, match=r"^LAPSE_REGISTRY__AUTH is set, and the registry's URL has a password too"):
        registry_source(config("", environ=environ), environ)


def test_entra_says_who_comes_to_a_server_without_a_password() -> None:
    read = config('url = "rediss://a:1/0"\nauth = "entra"', 'broker_url = "redis://b"')
    assert isinstance(registry_source(read, NONE).credentials, RedisEntraCredentials)
    assert isinstance(broker_source(read, NONE).credentials, RedisEntraCredentials)
    with pytest.raises(ConfigError, match=r"\[registry\] auth is set, and the registry's URL has a password too"):
        registry_source(config('url = "rediss://u:p@a:1/0"\nauth = "entra"'), NONE)


@pytest.mark.parametrize(
    ("iam", "registry", "broker"),
    [
        ('{ cache = "lapse", region = "r" }', "lapse", "lapse"),
        ('{ cache = "lapse", broker_cache = "wake-ups", region = "r" }', "lapse", "wake-ups"),
    ],
)
def test_iam_signs_for_the_users_of_the_urls_and_a_cache_each(
    iam: str, registry: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    read = config(f'url = "rediss://app@a:1/0"\nauth = "iam"\niam = {iam}', 'broker_url = "rediss://other@b"')
    for source, user, cache in (
        (registry_source(read, NONE), "app", registry),
        (broker_source(read, NONE), "other", broker),
    ):
        assert isinstance(source.credentials, IamCredentials)
        said = source.credentials.get_credentials()
        assert (user, f"{cache}/?Action=connect&User={user}&") == (said[0], said[1].partition("X-Amz")[0])


def test_iam_needs_a_user() -> None:
    with pytest.raises(ConfigError, match=r'\[registry\] auth = "iam" needs a user: write the URL as'):
        registry_source(config('url = "rediss://a"\nauth = "iam"\niam = { cache = "lapse" }'), NONE)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('auth = "entra"\npassword_file = "/f"', 'password_file: is of no use beside auth = "entra"'),
        ('auth = "iam"', "auth: needs a cache beside it"),
        ('iam = { cache = "lapse" }', 'iam: has no meaning without auth = "iam"'),
        ('auth = "entra"\niam = { cache = "lapse" }', 'iam: has no meaning without auth = "iam"'),
        (
            'auth = "iam"\niam = { cache = "lapse", service = "memorydb", serverless = true }',
            "serverless: is of ElastiCache alone",
        ),
        ('auth = "basic"', "is not a choice: there is entra, iam"),
    ],
)
def test_what_opens_a_registry_in_two_ways_is_refused_on_its_line(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(text)
    assert why in str(refused.value)


@pytest.mark.parametrize("text", ['auth = "basic"\niam = { cache = "lapse" }', 'auth = "iam"\niam = 1'])
def test_a_key_that_is_wrong_by_itself_is_told_once(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(text)
    assert 1 == str(refused.value).count("[registry]") + str(refused.value).count("registry.")
