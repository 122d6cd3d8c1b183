"""Wake-ups by other brokers than the registry's Redis."""

from collections.abc import Callable
from typing import Any

import redis
from celery import Celery  # type: ignore[import-untyped]
from kombu import Queue

from lapse.policy import parse
from lapse.runtime.celery_config import settings
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.deployment import HEAD, policy


def test_a_broker_that_is_a_shard_is_asked_for_one_slot_at_a_time(wait_until: Callable[..., None]) -> None:
    """A server in cluster mode refuses a transaction or a script over keys of two slots, as a proxy of shards does."""
    config = parse(HEAD.format(directory=".", base_url="http://127.0.0.1:9/v1") + policy(), "retention.toml", {})
    mode = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with EmbeddedRedis(*mode) as server, redis.Redis.from_url(server.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "'cluster_state': 'ok'" in str(admin.execute_command("CLUSTER INFO")), what="its slots")
        app = Celery(set_as_current=False)
        app.conf.update(settings(config, server.url), broker_transport="lapse.runtime.broker:Transport")
        for _ in range(2):
            app.send_task("lapse.housekeeping")
        with app.connection_for_read() as connection:
            taken: list[Any] = []
            with connection.Consumer(
                [Queue("lapse")], callbacks=[lambda _, message: taken.append(message)]
            ) as consumer:
                while len(taken) < 2:
                    connection.drain_events(timeout=5)
                taken[0].ack()
                assert {b"{broker}"} == {key.split(b":")[1] for key in admin.scan_iter()}
                assert 1 == admin.hlen("lapse:{broker}:unacked")
                consumer.channel.qos.restore_at_shutdown = True
                consumer.channel.qos.restore_unacked_once()
            assert 1 == admin.llen("lapse:{broker}:lapse")
