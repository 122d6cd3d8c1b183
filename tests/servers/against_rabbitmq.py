"""Wake-ups by RabbitMQ, which is killed, started anew and out of disk: beat and worker go on by themselves.

Not collected by a plain run, as its name does not begin with test_: ``make test-servers`` names the file. It needs the
``rabbitmq-server`` program and fails without it.
"""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery  # type: ignore[import-untyped]

from lapse.cli.doctor import running
from lapse.guards.integrity.preflight import Finding, Level
from lapse.policy.reload import ConfigFile, broker_source
from lapse.sandbox import Sandbox
from servers.rabbitmq import RabbitMQ
from support.deployment import Deployment, Process, policy
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]
Wait = Callable[..., None]


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """Return a node that runs when a test begins."""
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as made:
        yield made


@pytest.fixture
def deployment(
    tmp_path: Path, redis_url: str, sandbox: Sandbox, wait_until: Wait, rabbit: RabbitMQ
) -> Iterator[Deployment]:
    """Return a deployment whose broker it is, with a worker and a beat that have deleted once."""
    made = Deployment(tmp_path, redis_url, sandbox, wait_until)
    made.configure(policy())
    made.seed(5)
    environ = {"CELERY_BROKER_URL": rabbit.url}
    made.worker(environ=environ)
    made.beat(environ=environ)
    wait_until(lambda: not made.alive(), what="the first deletions")
    yield made
    found = made.verdict()
    made.close()
    assert found == [], "\n".join(map(str, found))


def programs(deployment: Deployment) -> list[Process]:
    """Return worker and beat."""
    return list(deployment.processes)


def told(deployment: Deployment, rabbit: RabbitMQ) -> Finding:
    """Return what doctor says of the broker."""
    config = ConfigFile(deployment.config, {}).current()
    return running.broker(config, broker_source(config, {"CELERY_BROKER_URL": rabbit.url}))[0]


def ends_well(deployment: Deployment) -> None:
    """Show that nobody was started anew in between, and that both end when they are told."""
    assert [0, 0] == [each.stop()[0] for each in programs(deployment)]
    for each in programs(deployment):
        assert [] == each.events(level="critical"), each.stderr
        assert "guest:guest" not in each.stderr


def test_what_is_due_is_deleted_and_doctor_sees_the_queue(deployment: Deployment, rabbit: RabbitMQ) -> None:
    found = told(deployment, rabbit)
    assert (Level.OK, True) == (found.level, "answers" in found.detail)
    assert f"amqp://guest:***@127.0.0.1:{rabbit.port}" in found.detail
    assert [] == [key for key in deployment.raw.scan_iter() if "broker" in key]
    ends_well(deployment)


def test_a_message_that_is_none_of_ours_is_dropped(deployment: Deployment, rabbit: RabbitMQ, wait_until: Wait) -> None:
    worker = programs(deployment)[0]
    with Celery(broker=rabbit.url, set_as_current=False).connection_for_write() as connection:
        producer = connection.Producer()
        producer.publish({"no": "task"}, routing_key="lapse", serializer="json")
        producer.publish(
            base64.b64encode(b"\x80pickle"), routing_key="lapse", content_type="application/x-python-serialize"
        )
        headers = {"task": "lapse.housekeeping", "id": "1", "eta": "2099-01-01T00:00:00"}
        producer.publish(
            json.dumps([[], {}, {}]), routing_key="lapse", headers=headers, content_type="application/json"
        )
    wait_until(lambda: len(worker.events("message.refused")) == 3, what="three refusals")
    deployment.seed(5)
    wait_until(lambda: not deployment.alive(), what="deletions after it")
    ends_well(deployment)


def test_a_broker_that_is_killed_and_comes_back_is_found_again(
    deployment: Deployment, rabbit: RabbitMQ, wait_until: Wait
) -> None:
    rabbit.kill()
    ids = deployment.seed(5)
    wait_until(lambda: all("refused" in each.stderr for each in programs(deployment)), what="a lost connection")
    assert Level.FATAL is told(deployment, rabbit).level
    assert set(ids) == deployment.alive()
    rabbit.start()
    wait_until(lambda: not deployment.alive(), 60, what="the deletions of before")
    ends_well(deployment)


def test_a_broker_that_is_started_anew_in_order_is_found_again(
    deployment: Deployment, rabbit: RabbitMQ, wait_until: Wait
) -> None:
    rabbit.stop()
    rabbit.start()
    deployment.seed(5)
    wait_until(lambda: not deployment.alive(), 60, what="deletions after it")
    ends_well(deployment)


def test_a_broker_whose_disk_is_full_delays_and_loses_nobody(
    deployment: Deployment, rabbit: RabbitMQ, wait_until: Wait
) -> None:
    """RabbitMQ reads nothing any more of who publishes; what beat said meanwhile waits in the kernel's buffers."""
    rabbit.fill()
    wait_until(lambda: "blocked" in rabbit.say("list_connections", "state"), 30, what="a publisher that is blocked")
    deployment.seed(5)
    said = deployment.raw.hget("lapse:published", "beat")
    wait_until(lambda: deployment.raw.hget("lapse:published", "beat") != said, 30, what="a beat that goes on")
    assert 5 == len(deployment.alive())
    rabbit.drain()
    wait_until(lambda: not deployment.alive(), 60, what="the deletions of before")
    ends_well(deployment)
