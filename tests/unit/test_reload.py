"""Which file, which Redis, and the file's newest valid version."""

import os
import re
import ssl
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis
from kombu import connection

from lapse.errors import ConfigError
from lapse.policy import Config, parse
from lapse.policy.reload import (
    PATIENCE,
    SETTLED,
    ConfigFile,
    audit_file,
    broker_source,
    find,
    for_redis,
    is_redis,
    lasting,
    registry_source,
    state_folder,
)
from lapse.sandbox.redis_server import EmbeddedRedis

Connection: Any = connection.Connection  # kombu has no annotations
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
    with pytest.raises(ConfigError, match=r"LAPSE_CONFIG=config: it is a folder; name the policy file in it"):
        find({"LAPSE_CONFIG": "config"}, tmp_path)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"LAPSE_STATE_DIR": "/a", "STATE_DIRECTORY": "/b"}, Path("/a")),
        ({"LAPSE_STATE_DIR": "", "STATE_DIRECTORY": "/b:/b2"}, Path("/b")),
        ({}, None),
    ],
)
def test_the_state_folder_is_the_variables_or_systemds(environ: dict[str, str], folder: Path | None) -> None:
    assert folder == state_folder(environ)


def test_a_relative_file_is_in_the_state_folder_unless_it_is_here_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"LAPSE_STATE_DIR": "/state"}

    assert Path("/state/audit.jsonl") == lasting("audit.jsonl", state)
    assert Path("/log/audit.jsonl") == lasting("/log/audit.jsonl", state)
    assert Path("audit.jsonl") == lasting("audit.jsonl", {})
    (tmp_path / "audit.jsonl").write_text("{}")
    assert Path("audit.jsonl") == lasting("audit.jsonl", state)


def test_an_audit_goes_to_its_file_or_to_standard_output() -> None:
    state = {"LAPSE_STATE_DIR": "/state"}

    assert None is audit_file(config(), state)
    assert Path("/state/a.jsonl") == audit_file(config('[audit]\nsink = "file:a.jsonl"\n'), state)


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
    assert "ssl_cert_reqs=none" in broker_source(config("[registry]\ntls_verify = false\n"), environ).url
    assert "ssl_ca_certs=%2Fca.pem" in registry_source(config('[registry]\ntls_ca = "/ca.pem"\n'), environ).url


@pytest.mark.parametrize("url", ["redis://", "redis://h:6379/x", "h:6379", "memory://"])
def test_what_is_no_redis_url_is_refused_by_its_variables_name(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL: "):
        registry_source(config(), {"REDIS_URL": url})
    with pytest.raises(ConfigError, match=r"^CELERY_BROKER_URL: "):
        broker_source(config(), {"CELERY_BROKER_URL": url, "REDIS_URL": "redis://h"})
    with pytest.raises(ConfigError, match=r"^LAPSE_REGISTRY__URL: "):
        config(LAPSE_REGISTRY__URL=url)


@pytest.mark.parametrize(
    "url", ["amqp://u:hunter2@h//", "sqs://id:hunter2@", "amqp://a;amqp://b", "sentinel://a;sentinel://b"]
)
def test_a_broker_may_be_none_of_redis_and_the_registry_may_not(url: str) -> None:
    source = broker_source(config(), {"CELERY_BROKER_URL": url, "REDIS_URL": "redis://h"})
    assert (url, "CELERY_BROKER_URL", False) == (source.url, source.origin, is_redis(source.url))
    with pytest.raises(ConfigError, match=r"^REDIS_URL: ") as refused:
        registry_source(config(), {"REDIS_URL": url})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+socket:///s", "is spelled unix:///PATH"),
        ("amqps://:hunter2@h?ssl_cert_reqs=none", "write tls_ca and tls_verify"),
        ("amqp://:hunter2 @h", "is not a broker's URL"),
        ("://:hunter2@h", "is not a broker's URL"),
    ],
)
def test_what_carries_no_message_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"^CELERY_BROKER_URL: .*{re.escape(said)}") as refused:
        broker_source(config(), {"CELERY_BROKER_URL": url})
    assert "hunter2" not in str(refused.value)


def test_transport_options_are_for_a_broker_that_is_no_redis() -> None:
    options = config("[celery]\nbroker_transport_options = { region = 'eu' }\n")
    assert broker_source(options, {"CELERY_BROKER_URL": "sqs://"}).url == "sqs://"
    with pytest.raises(ConfigError, match=r"broker_transport_options: lapse has its own for a Redis, which REDIS_URL"):
        broker_source(options, {"REDIS_URL": "redis://h"})


REFUSED = {
    "redis://h/0?socket_timeout=5": "socket_timeout",
    "redis://h/0?ssl_cert_reqs=required": "ssl_cert_reqs",
    "rediss://h/0?ssl_cert_reqs=none": "tls_verify = false",
    "rediss://h?ssl_cert_reqs=CERT_OPTIONAL": "tls_verify",
    "redis://h?db=1&db=1": "twice",
    "redis://h?&": "or none",
    "redis://h?db=x": "not a number",
    "redis://h/2?db=3": "two databases",
    "unix:///s?password=secret-word": "password",
    "redis://:a;b@h/0": "%3B",
    "redis://h/0#b": "%23",
    "unix:///s?db=": "not a number",
}


@pytest.mark.parametrize(("url", "said"), REFUSED.items())
def test_what_not_every_process_would_take_is_refused_without_repeating_it(url: str, said: str) -> None:
    for make in (
        lambda: registry_source(config(), {"REDIS_URL": url}),
        lambda: broker_source(config(), {"CELERY_BROKER_URL": url, "REDIS_URL": "redis://h"}),
        lambda: config(LAPSE_REGISTRY__URL=url),
    ):
        with pytest.raises(ConfigError) as refused:
            make()
        assert said in str(refused.value)
        assert "secret-word" not in str(refused.value)
        assert ":a" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("redis://h?db=3", "redis://h/3"),
        ("redis://h/3?db=3", "redis://h/3"),
        ("redis://u:p@h:1/?db=0", "redis://u:p@h:1/0"),
        ("unix:///s?db=2", "unix:///s?db=2"),
        ("redis://h/0", "redis://h/0"),
    ],
)
def test_the_database_is_where_every_process_reads_it(url: str, plain: str) -> None:
    assert plain == registry_source(config(), {"REDIS_URL": url}).url
    broker = broker_source(config(), {"CELERY_BROKER_URL": url, "REDIS_URL": "redis://h"}).url
    assert plain == for_redis(broker)


def test_tls_files_may_stand_in_the_url_and_verification_cannot_be_lost_there() -> None:
    url = "rediss://h/0?ssl_cert_reqs=CERT_REQUIRED&ssl_certfile=/c.pem&db=0"
    found = registry_source(config("[registry]\ntls_verify = false\n"), {"REDIS_URL": url}).url
    assert "rediss://h/0?ssl_cert_reqs=required&ssl_certfile=%2Fc.pem" == found


def test_a_blank_redis_url_is_none() -> None:
    with pytest.raises(ConfigError, match=r"Set LAPSE_REGISTRY__URL, .* or REDIS_URL"):
        registry_source(config(), {"REDIS_URL": ""})


def test_an_origin_is_the_variable_or_the_files_key() -> None:
    environ = {"LAPSE_CELERY__BROKER_URL": "redis://b"}
    filed = config('[celery]\nbroker_url = "redis://c"\n')

    assert "LAPSE_CELERY__BROKER_URL" == broker_source(config("", **environ), environ).origin
    assert "config/retention.toml [celery] broker_url" == broker_source(filed, {}).origin


def test_what_a_url_says_of_tls_holds() -> None:
    environ = {"REDIS_URL": "rediss://:p%40ss@h:6380/0?ssl_cert_reqs=required&ssl_keyfile=/k.pem"}
    source = broker_source(config('[registry]\ntls_ca = "/ca.pem"\n'), environ)

    assert source.url.startswith("rediss://:p%40ss@h:6380/0?")
    assert {"ssl_cert_reqs": ["required"], "ssl_keyfile": ["/k.pem"], "ssl_ca_certs": ["/ca.pem"]} == parse_qs(
        urlsplit(source.url).query
    )


def test_both_libraries_verify_what_is_said_nothing_of() -> None:
    environ = {"REDIS_URL": "rediss://h:6380/0"}
    kombu = Connection(broker_source(config(), environ).url)

    assert {"ssl_cert_reqs": ssl.CERT_REQUIRED} == kombu.ssl
    assert "required" == redis.connection.parse_url(registry_source(config(), environ).url)["ssl_cert_reqs"]


def test_registry_and_broker_meet_in_one_database_behind_a_unix_socket(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with EmbeddedRedis("--unixsocket", str(socket)) as server:
        with redis.Redis.from_url(server.url) as admin:
            admin.config_set("requirepass", "hunter2")
        environ = {"REDIS_URL": f"unix://:hunter2@{socket}?db=3"}
        with Connection(broker_source(config(), environ).url) as broker:
            broker.SimpleQueue("wake").put("up")
        with redis.Redis.from_url(registry_source(config(), environ).url) as registry:
            assert 1 == registry.llen("wake")


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


def test_a_copy_that_keeps_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    file, status = ConfigFile(path, {}), path.stat()

    path.write_text(GOOD.replace("30d", "20d"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert 20 * 86400 == file.current().rules[0].ttl


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    file = ConfigFile(path, {})
    first, loaded_at = file.current(), file.loaded_at
    os.utime(path, ns=(1, path.stat().st_mtime_ns))

    assert first is file.current()
    path.write_text(GOOD + "# a comment\n")
    assert first is file.current()
    assert loaded_at == file.loaded_at
    path.write_text("x")
    for _ in range(2):
        began = time.perf_counter()
        assert first is file.current()
    assert time.perf_counter() - began < SETTLED
    assert loaded_at == file.loaded_at


def test_a_time_in_the_future_is_no_reason_to_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    os.utime(path, (time.time() + 86400, time.time() + 86400))
    began = time.monotonic()

    assert ConfigFile(path, {}).ok
    assert time.monotonic() - began < PATIENCE


def test_overrides_hold_for_every_version(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(GOOD)
    environ = {"LAPSE_POLICIES__CHAT__MODE": "enforce"}
    file = ConfigFile(path, environ)
    environ.clear()
    path.write_text(GOOD.replace("30d", "20d"))

    assert (True, 20 * 86400) == (file.current().rules[0].enforce, file.current().rules[0].ttl)


LONG = GOOD + "".join(
    f'[policies.p{n}]\nkind = "conversation"\nttl = "1d"\nanchor = "created_at"\n'
    'keep = [{ metadata = { pin = "true" } }]\n'
    for n in range(8)
)


def in_pieces(path: Path, text: str, pause: float) -> float:
    """Overwrite as a slow copy does, empty at first and then line by line; return the longest time without a change."""
    longest, last = 0.0, time.monotonic()
    with path.open("w") as file:
        for line in ["", *text.splitlines(keepends=True)]:
            file.write(line)
            file.flush()
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            time.sleep(pause)
    return longest


def test_a_file_that_is_being_written_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    """Each state in between is TOML, and most are valid policy files that keep less than the whole one."""
    path = tmp_path / "retention.toml"
    deadline, stalled = time.monotonic() + 60, True
    while stalled:
        assert time.monotonic() < deadline, "a writer that is never interrupted for long"
        path.write_text(GOOD)
        file = ConfigFile(path, {})
        stalls: list[float] = []
        writer = threading.Thread(target=lambda stalls=stalls: stalls.append(in_pieces(path, LONG, SETTLED / 10)))
        writer.start()
        seen = [file.current()]
        while writer.is_alive():
            seen.append(file.current())
        writer.join()
        seen.append(file.current())
        stalled = stalls[0] >= SETTLED / 2  # the machine was busy: the promise is about files that do not pause

    assert {1, 9} >= {len(config.rules) for config in seen}
    assert 9 == len(seen[-1].rules)
    assert file.ok


def test_a_file_that_never_rests_is_not_waited_for_without_end(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    deadline, stalled = time.monotonic() + 60, True
    while stalled:
        assert time.monotonic() < deadline, "a writer that is never interrupted for long"
        path.write_text(GOOD)
        file = ConfigFile(path, {})
        first, done, stalls = file.current(), threading.Event(), [0.0]

        def restless(done: threading.Event = done, stalls: list[float] = stalls) -> None:
            last = time.monotonic()
            while not done.is_set():
                replace_file(path, GOOD.replace("30d", "7d"), atomic=True)
                stalls[0], last = max(stalls[0], time.monotonic() - last), time.monotonic()
                done.wait(SETTLED / 10)

        writer = threading.Thread(target=restless)
        writer.start()
        kept = first
        while file.ok and kept is first:
            kept = file.current()
        done.set()
        writer.join()
        stalled = stalls[0] >= SETTLED / 2  # the machine was busy: the file had rested meanwhile

    assert kept is first
    assert "changes again and again" in (file.error or "")
    assert 7 * 86400 == file.current().rules[0].ttl
    assert file.ok


def test_a_registry_that_is_a_cluster_needs_a_broker_of_its_own() -> None:
    url = "redis+cluster://a:7001,b/0"
    used = config(LAPSE_REGISTRY__URL=url)

    assert url == registry_source(used, {}).url
    with pytest.raises(ConfigError, match=r"LAPSE_REGISTRY__URL names a cluster, .* name it by itself"):
        broker_source(used, {})
    with pytest.raises(ConfigError, match="CELERY_BROKER_URL names a cluster"):
        broker_source(used, {"CELERY_BROKER_URL": url})
    assert "redis://broker/1" == broker_source(used, {"CELERY_BROKER_URL": "redis://broker/1"}).url


@pytest.mark.parametrize("variable", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_a_broker_may_be_the_redis_that_sentinels_name(variable: str) -> None:
    used = {"REDIS_URL": "redis://h", variable: "rediss+sentinel://:p@a,b/mymaster/0"}

    assert "rediss+sentinel://:p@a,b/mymaster/0?ssl_cert_reqs=required" == broker_source(config(), used).url
    with pytest.raises(ConfigError, match="CELERY_BROKER_URL: names no primary"):
        broker_source(config(), {"CELERY_BROKER_URL": "redis+sentinel://a,b"})


def test_tls_to_several_servers_is_spelled_out_too() -> None:
    used = config(LAPSE_REGISTRY__URL="rediss+cluster://u:p@a:7001,b/0")

    assert "rediss+cluster://u:p@a:7001,b/0?ssl_cert_reqs=required" == registry_source(used, {}).url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+cluster://a/2", "names database 2: a cluster has only 0"),
        ("redis+cluster://u:hidden@a b", "is not a URL"),
        ("redis+sentinel://u:hidden@a/mymaster/0?sentinel_x=1", 'has "sentinel_x" behind its'),
        ("redis+sentinel://u:hidden@a/mymaster/0?x=1", 'has "x" behind its'),
    ],
)
def test_a_url_of_several_servers_is_checked_as_others_are(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        registry_source(config(), {"REDIS_URL": url})

    assert "hidden" not in str(refused.value)
