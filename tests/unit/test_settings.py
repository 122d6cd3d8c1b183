"""Which file, which Redis, and the file's newest valid version."""

import os
from pathlib import Path

import pytest

from lapse.errors import ConfigError
from lapse.policy import Config, parse
from lapse.settings import ConfigFile, broker_source, find, registry_source

GOOD = """
[providers.openai]
type = "openai"
api_key_env = "K"
[policies.chat]
kind = "conversation"
ttl = "30d"
anchor = "created_at"
"""


def config(text: str = "", **environ: str) -> Config:
    return parse(text + GOOD, "retention.toml", environ)


def _source(read: Config, environ: dict[str, str]) -> tuple[str, str]:
    source = registry_source(read, environ)
    return source.url, source.origin


def test_the_file_is_the_variables_or_the_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"LAPSE_CONFIG.*config/retention.toml"):
        find({}, tmp_path)
    (tmp_path / "config").mkdir()
    default = tmp_path / "config" / "retention.toml"
    default.write_text(GOOD)
    other = tmp_path / "other.toml"
    other.write_text(GOOD)

    assert default == find({}, tmp_path)
    assert other == find({"LAPSE_CONFIG": "other.toml"}, tmp_path)
    with pytest.raises(ConfigError, match=r"LAPSE_CONFIG=missing\.toml"):
        find({"LAPSE_CONFIG": "missing.toml"}, tmp_path)


def test_the_registry_comes_from_variable_file_or_redis_url_in_this_order() -> None:
    everything = {"LAPSE_REGISTRY__URL": "redis://a:1/0", "REDIS_URL": "redis://c:3/0"}
    filed = '[registry]\nurl = "redis://b:2/0"\n'

    assert ("redis://a:1/0", "LAPSE_REGISTRY__URL") == _source(config(filed, **everything), everything)
    url, origin = _source(config(filed), {"REDIS_URL": "redis://c:3/0"})
    assert ("redis://b:2/0", True) == (url, origin.endswith("[registry] url"))
    assert ("redis://c:3/0", "REDIS_URL") == _source(config(), {"REDIS_URL": "redis://c:3/0"})
    with pytest.raises(ConfigError, match="LAPSE_REGISTRY__URL"):
        registry_source(config(), {})


def test_the_broker_is_its_own_or_the_registrys() -> None:
    assert "redis://a:1/0" == broker_source(config(), {"REDIS_URL": "redis://a:1/0"}).url
    assert (
        "redis://b:2/1"
        == broker_source(config(), {"CELERY_BROKER_URL": "redis://b:2/1", "REDIS_URL": "redis://a:1/0"}).url
    )
    filed = config('[celery]\nbroker_url = "redis://c:3/1"\n')
    assert (
        "redis://c:3/1"
        == broker_source(filed, {"CELERY_BROKER_URL": "redis://b:2/1", "REDIS_URL": "redis://a:1/0"}).url
    )


def test_tls_is_verified_unless_it_is_said_otherwise() -> None:
    environ = {"REDIS_URL": "rediss://h:6380/0"}

    assert "ssl_cert_reqs=required" in registry_source(config(), environ).url
    assert "ssl_cert_reqs=none" in registry_source(config("[registry]\ntls_verify = false\n"), environ).url
    assert "ssl_ca_certs=%2Fca.pem" in registry_source(config('[registry]\ntls_ca = "/ca.pem"\n'), environ).url


@pytest.mark.parametrize("url", ["redis://", "http://h", "redis://h:6379/x", "h:6379"])
def test_what_is_no_redis_url_is_refused_by_its_variables_name(url: str) -> None:
    if url.startswith("redis"):
        with pytest.raises(ConfigError, match="REDIS_URL"):
            registry_source(config(), {"REDIS_URL": url})
    else:
        with pytest.raises(ConfigError, match="LAPSE_REGISTRY__URL"):
            config(LAPSE_REGISTRY__URL=url)


def test_a_password_is_not_in_a_sources_representation() -> None:
    assert "hunter2" not in repr(registry_source(config(), {"REDIS_URL": "redis://:hunter2@h:6379/0"}))


def replace_file(path: Path, text: str, *, atomic: bool) -> None:
    if atomic:
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
    else:
        path.write_text(text)
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize("atomic", [True, False])
def test_a_changed_file_is_picked_up_and_an_invalid_one_is_not(tmp_path: Path, *, atomic: bool) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    file = ConfigFile(path, {})
    first = file.current()

    replace_file(path, GOOD.replace("30d", "7d"), atomic=atomic)
    changed = file.current()
    assert (30 * 86400, 7 * 86400, True) == (first.rules[0].ttl, changed.rules[0].ttl, file.ok)

    replace_file(path, GOOD.replace('"30d"', "30"), atomic=atomic)
    assert changed is file.current()
    assert (False, True) == (file.ok, "ttl" in (file.error or ""))
    assert changed is file.current()

    replace_file(path, GOOD, atomic=atomic)
    assert (30 * 86400, True, None) == (file.current().rules[0].ttl, file.ok, file.error)


def test_a_file_that_disappears_keeps_the_last_version(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    file = ConfigFile(path, {})
    first = file.current()
    path.unlink()

    assert first is file.current()
    assert not file.ok
    path.write_text(GOOD)
    assert first.hash == file.current().hash
    assert file.ok


def test_the_first_version_has_to_be_valid(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text("[policies]\n")

    with pytest.raises(ConfigError):
        ConfigFile(path, {})
