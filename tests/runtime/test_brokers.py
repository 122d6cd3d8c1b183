"""Wake-ups by other brokers than the registry's Redis."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from celery import Celery  # type: ignore[import-untyped]
from redis.sentinel import Sentinel

from lapse.cli.doctor import running
from lapse.guards.integrity.preflight import Finding, Level
from lapse.policy import parse
from lapse.policy.reload import ConfigFile, Source, broker_source
from lapse.runtime.broker import waiting
from lapse.runtime.celery_config import MESSAGE_WAIT, settings
from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port, server_binary
from support.deployment import HEAD, Deployment, policy


def test_a_broker_that_is_a_shard_is_asked_for_one_slot_at_a_time(wait_until: Callable[..., None]) -> None:
    """A server in cluster mode refuses a transaction or a script over keys of two slots, as a proxy of shards does."""
    config = parse(HEAD.format(directory=".", base_url="http://127.0.0.1:9/v1") + policy(), "retention.toml", {})
    mode = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with EmbeddedRedis(*mode) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "'cluster_state': 'ok'" in str(admin.execute_command("CLUSTER INFO")), what="its slots")
        app = Celery(set_as_current=False)
        app.conf.update(settings(config, Source(server.url, "here")), broker_transport="lapse.runtime.broker:Transport")
        for _ in range(2):
            app.send_task("lapse.housekeeping")
        with app.connection_for_read() as connection:
            taken: list[Any] = []
            with app.amqp.TaskConsumer(connection.default_channel, on_message=taken.append) as consumer:
                connection.drain_events(timeout=5)
                connection.drain_events(timeout=5)
                taken[0].ack()
                assert MESSAGE_WAIT == consumer.channel.brpop_timeout
                assert {b"{broker}"} == {key.split(b":")[1] for key in admin.scan_iter()}
                assert 1 == admin.hlen("lapse:{broker}:unacked")
                consumer.channel.qos.restore_at_shutdown = True
                consumer.channel.qos.restore_unacked_once()
            assert 1 == admin.llen("lapse:{broker}:lapse")


def test_a_broker_that_sentinels_name_is_a_redis_like_any_other(
    tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    port, file = free_port(), tmp_path / "sentinel.conf"
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url, decode_responses=True) as primary:
        file.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor mymaster 127.0.0.1 {server.port} 1\n")
        options = (
            f'[celery]\nbroker_url = "sentinel://127.0.0.1:{port}"\nbroker_transport_options.master_name = "mymaster"\n'
        )
        config = parse(HEAD.format(directory=".", base_url="http://127.0.0.1:9/v1") + policy() + options, "f", {})
        made = settings(config, Source(f"sentinel://127.0.0.1:{port}", "here"))
        app = Celery(set_as_current=False)
        app.conf.update(made, broker_transport="lapse.runtime.broker:SentinelTransport")
        with subprocess.Popen(
            die_with_parent(server_binary(), str(file), "--sentinel"), stdout=subprocess.DEVNULL
        ) as own:
            try:
                wait_until(lambda: answers(Sentinel([("127.0.0.1", port)])), what="the sentinel")
                app.send_task("lapse.housekeeping")
                counted = waiting(made, 5)
            finally:
                own.kill()
        assert (1, 1) == (primary.llen("lapse:{broker}:lapse"), counted)
        app.close()


def answers(sentinel: Sentinel) -> bool:
    """Return True once a sentinel names the primary."""
    try:
        return bool(sentinel.discover_master("mymaster"))
    except redis.RedisError:
        return False


def test_a_broker_that_is_no_redis_carries_wake_ups_and_what_is_none_is_dropped(
    deployment: Deployment, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Kombu's filesystem: messages are files in a folder."""
    folder = tmp_path / "messages"
    folder.mkdir()
    folders = "".join(f'{name} = "{folder}"\n' for name in ("data_folder_in", "data_folder_out", "control_folder"))
    celery = (
        f'[celery]\nbroker_url = "filesystem://"\n[celery.broker_transport_options]\npolling_interval = 0.1\n{folders}'
    )
    deployment.configure(policy(), head=HEAD.replace("[schedule]", f"{celery}[schedule]"))
    deployment.seed(3)
    beat = deployment.beat()
    wait_until(lambda: list(folder.glob("*.lapse.msg")), what="a wake-up")
    forged = json.loads(next(folder.glob("*.lapse.msg")).read_text())
    forged["headers"]["task"] = "lapse.delete_everything"
    (folder / "0_forged.lapse.msg").write_text(json.dumps(forged))

    worker = deployment.worker()
    wait_until(lambda: not deployment.alive(), what="3 deletions")
    wait_until(lambda: worker.events("message.refused"), what="a refusal")

    assert ["it names no task of lapse"] == [line["why"] for line in worker.events("message.refused")]
    assert [] == worker.events(level="critical") + beat.events(level="error")
    assert [] == [key for key in deployment.raw.scan_iter() if "broker" in key]
    answers, transport = told(deployment)
    assert answers.detail.startswith(f"filesystem:// (from {deployment.config} [celery] broker_url) answers, ")
    assert "control_folder, data_folder_in, data_folder_out, polling_interval" in transport.detail
    folder.rename(tmp_path / "elsewhere")
    assert Level.FATAL is told(deployment)[0].level


def told(deployment: Deployment, **environ: str) -> list[Finding]:
    """Return what doctor says of the broker."""
    config = ConfigFile(deployment.config, environ).current()
    return running.broker(config, broker_source(config, {"REDIS_URL": deployment.url, **environ}))
