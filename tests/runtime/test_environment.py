"""What other Celery applications of the same host left in the environment changes nothing, but CELERY_BROKER_URL."""

from collections.abc import Callable

import pytest

from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.deployment import Deployment, policy

Wait = Callable[..., None]
AWAY = f"redis://127.0.0.1:{free_port()}/0"

LEFT: dict[str, dict[str, str]] = {
    "where to read": {"CELERY_BROKER_READ_URL": AWAY},
    "where to write": {"CELERY_BROKER_WRITE_URL": AWAY},
    "results": {"CELERY_RESULT_BACKEND": "django-db", "RESULT_BACKEND": "django-db"},
    "settings": {"CELERY_CONFIG_MODULE": "webconf", "CONFIG_MODULE": "webconf"},
    "routes": {"CELERY_CONFIG_MODULE": "routes"},
    "settings of another host": {"CELERY_CONFIG_MODULE": "config.of_another_host"},
    "a loader": {"CELERY_LOADER": "no.such:Loader", "LOADER": "no.such:Loader"},
    "Django": {"DJANGO_SETTINGS_MODULE": "web.settings"},
    "options of a worker": {
        "CELERY_WORKER_QUEUES": "web",
        "CELERY_WORKER_POOL": "gevent",
        "CELERY_WORKER_AUTOSCALE": "x",
        "CELERY_WORKER_PREFETCH_MULTIPLIER": "x",
        "CELERY_WORKER_TASK_EVENTS": "1",
        "CELERY_WORKER_PURGE": "1",
        "CELERY_WORKER_EXCLUDE_QUEUES": "lapse",
    },
    "options of a beat": {
        "CELERY_BEAT_SCHEDULER": "no.such:Scheduler",
        "CELERY_BEAT_SCHEDULE": "/nowhere/schedule",
        "CELERY_BEAT_MAX_INTERVAL": "3600",
    },
    "another broker": {"BROKER_URL": AWAY},
}


@pytest.fixture
def neighbour(deployment: Deployment) -> Deployment:
    """Return a deployment beside whose file stand the settings of another Celery application."""
    (deployment.directory / "webconf.py").write_text(
        'task_routes = {"*": {"queue": "web"}}\nimports = ("a_module_that_only_the_other_application_has",)\n'
    )
    (deployment.directory / "routes.py").write_text('task_routes = {"*": {"queue": "web"}}\n')
    deployment.configure(policy())
    return deployment


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
def test_what_another_application_left_changes_nothing_and_is_named(
    neighbour: Deployment, wait_until: Wait, left: dict[str, str]
) -> None:
    ids = neighbour.seed(3)
    environ = {**left, "PYTHONPATH": str(neighbour.directory)}

    worker = neighbour.worker(environ=environ)
    beat = neighbour.beat(environ=environ)

    wait_until(lambda: not neighbour.alive() & set(ids), what="3 deletions")
    named = {name for name in left if name.startswith("CELERY_") or name == "BROKER_URL"}
    for program in (worker, beat):
        assert program.alive()
        assert program.events(level="error") == []
        assert "Traceback" not in program.stderr
        ignored = {name for line in program.events("environment.ignored") for name in line["variables"]}
        assert named <= ignored
    assert [] == [key for key in neighbour.raw.keys("*") if "web" in str(key) or "celery" in str(key)]


def test_celerys_broker_url_counts_also_beside_another_applications(neighbour: Deployment, wait_until: Wait) -> None:
    with EmbeddedRedis() as server:
        environ = {"CELERY_BROKER_URL": server.url, "BROKER_URL": AWAY, "CELERY_BROKER_READ_URL": AWAY}
        worker = neighbour.worker("--beat", environ=environ)
        wait_until(lambda: worker.events("sweep.finished"), what="a sweep")
        (source,) = worker.events("broker.source")

        assert (server.url, "CELERY_BROKER_URL") == (source["url"], source["origin"])
        worker.stop()


def test_a_directory_that_celery_would_go_to_is_refused(neighbour: Deployment) -> None:
    elsewhere = neighbour.directory / "web"
    elsewhere.mkdir()

    worker = neighbour.start("worker", environ={"CELERY_WORKDIR": str(elsewhere)})

    assert worker.wait(30) == 2
    assert "CELERY_WORKDIR" in worker.stderr
    assert "Traceback" not in worker.stderr
