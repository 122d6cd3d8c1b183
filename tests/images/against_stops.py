"""What becomes of ids in flight when containers stop, die, lose their Redis, or get another policy.

Not collected by a plain run, as its name does not begin with test_: ``make test-images`` names the file. After each,
the provider's log, the audit and the counters are held against each other by the oracle of the other tests.
"""

from collections.abc import Callable

import pytest

from images.contained import GRACE, Container, ContainerDeployment
from support.deployment import policy

pytestmark = pytest.mark.timeout(600)
Wait = Callable[..., None]
Told = Callable[[str], None]
SLOW = 0.3
"""Seconds for one answer of the provider: some requests are in flight at any moment."""


@pytest.fixture
def busy(deployment: ContainerDeployment, wait_until: Wait) -> tuple[ContainerDeployment, Container]:
    """Return a deployment whose worker is in the middle of 400 deletions, beside one id that lives."""
    deployment.provider.latency(SLOW)
    deployment.configure(policy())
    deployment.seed(1, expires_in="1d")  # by it the worker sees that what is gone already was in the right place
    deployment.seed(400)
    worker, _beat = deployment.both()
    wait_until(lambda: len(deployment.alive()) < 370, 60, what="the first deletions")
    return deployment, worker


def gone(deployment: ContainerDeployment, wait_until: Wait) -> None:
    """Wait until all is deleted and written down."""
    busy = [f"lapse:{{openai:thread}}:chat:{index}" for index in ("claims", "waiting", "suspects")]
    wait_until(lambda: 1 == len(deployment.alive()), 120, what="all deletions")
    wait_until(lambda: not any(map(deployment.raw.zcard, busy)), 60, what="the last outcome")


def once(deployment: ContainerDeployment) -> None:
    """Fail unless the provider deleted every id exactly once, and the metric says the same."""
    confirmed = [request["path"] for request in deployment.deletes() if request["status"] == 200]
    assert 400 == len(confirmed) == len(set(confirmed))
    assert 400 == deployment.counters()["deletions|chat|thread"]


def test_a_stop_is_within_its_grace_and_every_id_is_deleted_exactly_once(
    busy: tuple[ContainerDeployment, Container], wait_until: Wait, stands_in: Told
) -> None:
    deployment, worker = busy

    code, took = worker.stop()

    stands_in(f"stopped in {took:.1f} s of {GRACE}")
    assert 0 == code
    assert took < GRACE
    assert deployment.alive()
    worker.again()
    gone(deployment, wait_until)
    once(deployment)


def test_after_a_kill_what_was_in_flight_is_found_again(
    busy: tuple[ContainerDeployment, Container], wait_until: Wait
) -> None:
    deployment, worker = busy

    assert 137 == worker.shoot()
    deployment.crashes += 4
    worker.again()
    gone(deployment, wait_until)


def test_a_redis_that_starts_anew_costs_nothing(busy: tuple[ContainerDeployment, Container], wait_until: Wait) -> None:
    deployment, worker = busy

    deployment.server.stop()
    deployment.server.start()
    wait_until(deployment.server.ready, 30, what="Redis")
    gone(deployment, wait_until)
    once(deployment)
    assert worker.alive()


def test_what_was_confirmed_while_redis_was_away_outlives_the_container(
    busy: tuple[ContainerDeployment, Container], wait_until: Wait, stands_in: Told
) -> None:
    """Redis stops, the worker is told to end and removed, a new one starts on its volume, Redis comes back."""
    deployment, worker = busy
    state = deployment.audit.parent

    deployment.server.stop()
    code, took = worker.stop()
    kept = len(list(state.glob("*.outbox")))
    stands_in(f"ended in {took:.1f} s without Redis, and left {kept} outboxes on the volume")
    worker.remove()
    assert 0 == code
    assert kept
    deployment.server.start()
    wait_until(deployment.server.ready, 30, what="Redis")
    deployment.program()
    gone(deployment, wait_until)

    wait_until(lambda: not list(state.glob("*.outbox")), 60, what="an empty outbox")
    once(deployment)


def test_a_policy_folder_is_swapped_there_and_back_while_workers_run(
    deployment: ContainerDeployment, wait_until: Wait, stands_in: Told
) -> None:
    """A, B, A, as Kubernetes swaps a ConfigMap: workers go on. New containers with A stand still, and say why."""
    first, second, third = policy(ttl="1h"), policy(), policy(ttl="2h")
    deployment.configure(first)
    deployment.seed(5)
    worker, _beat = deployment.both()
    loaded(deployment, worker, second, wait_until)
    wait_until(lambda: not deployment.alive(), 60, what="5 deletions")
    loaded(deployment, worker, first, wait_until)
    deployment.seed(5)
    assert "halted" not in status(worker)

    loaded(deployment, worker, third, wait_until)
    for container in list(deployment.processes):
        assert isinstance(container, Container)
        container.stop()
        container.remove()
    deployment.configure(first)
    fresh, _beat = deployment.both()
    wait_until(lambda: fresh.events("sweep.finished", result="divergence"), 60, what="a refusal of superseded rules")
    assert 5 == len(deployment.alive())
    said = status(fresh)
    assert "config_divergence" in said
    assert "lapse resume openai/thread/chat" in said
    stands_in(f"what `lapse status` said after a rollback by new containers: {said}")


def loaded(deployment: ContainerDeployment, worker: Container, rules: str, wait_until: Wait) -> None:
    """Give the policy folder other rules, and wait until a sweep by them was made."""
    before = len(worker.events("config.loaded")), len(worker.events("sweep.finished"))
    deployment.configure(rules)
    wait_until(lambda: len(worker.events("config.loaded")) > before[0], 60, what="the new rules")
    swept = len(worker.events("sweep.finished"))
    wait_until(lambda: len(worker.events("sweep.finished")) > swept, 60, what="a sweep")
    assert not worker.events("sweep.finished", result="divergence")


def status(worker: Container) -> str:
    """Return what ``lapse status`` says, on one line."""
    done = worker.run("lapse", "status")
    return " ".join((done.stdout + done.stderr).split())
