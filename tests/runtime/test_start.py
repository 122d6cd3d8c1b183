"""Starting: from any directory, and with a plain refusal where something is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis

from lapse.runtime import heartbeat
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis, free_port
from support.deployment import HEAD, Deployment, policy
from support.forward_proxy import ForwardProxy

PROGRAMS = [("worker",), ("beat",), ("worker", "--beat")]


def refusal(deployment: Deployment, *arguments: str, **environ: str) -> str:
    """Return what a program said before it ended with code 2."""
    process = deployment.start(*arguments, environ=environ)
    assert process.wait(30) == 2, process.stderr
    assert "Traceback" not in process.stderr
    return process.stderr


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_without_a_config_file_the_text_names_both_places(deployment: Deployment, program: tuple[str, ...]) -> None:
    said = refusal(deployment, *program)

    assert "LAPSE_CONFIG" in said
    assert "config/retention.toml" in said


def test_an_invalid_config_is_refused_with_file_and_key(deployment: Deployment) -> None:
    deployment.configure(policy(provider='"opnai"'))

    said = refusal(deployment, "worker")

    assert "retention.toml" in said
    assert "opnai" in said


def test_without_a_registry_url_the_text_says_what_to_set(deployment: Deployment) -> None:
    deployment.configure(policy())

    said = refusal(deployment, "worker", REDIS_URL="")

    assert "LAPSE_REGISTRY__URL" in said


def test_a_worker_is_refused_a_key_for_the_audit_that_everybody_can_read(
    deployment: Deployment, tmp_path: Path
) -> None:
    key = tmp_path / "audit.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o644)
    deployment.configure(policy(), head=HEAD.replace("[audit]", f'[audit]\nkey_file = "{key}"'))

    said = refusal(deployment, "worker")

    assert f"[audit] key_file {key} can be read by everybody: chmod o= {key}" in said


def test_a_worker_without_what_entra_needs_is_refused_with_the_line_that_installs_it(
    deployment: Deployment, tmp_path: Path
) -> None:
    """In Pythons in which azure cannot be imported."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['azure.identity'] = None")
    key, openai = 'api_key_env = "OPENAI_API_KEY"', 'type = "openai"'
    foundry = HEAD.replace(key, 'auth = "entra"').replace(openai, 'type = "foundry"')
    deployment.configure(policy(), head=foundry)

    said = refusal(deployment, "worker", PYTHONPATH=str(hidden))

    assert "[providers.openai] auth" in said
    assert "pip install 'PATH/TO/lapse[worker,entra]'" in said


@pytest.mark.parametrize(
    ("line", "environ", "said"),
    [
        ('ca_file = "/nowhere/ca.pem"', {}, "[providers.openai] ca_file: /nowhere/ca.pem cannot be read"),
        ('proxy = "env"', {"HTTP_PROXY": "socks5://hunter2@h:1"}, 'proxy = "env": HTTP_PROXY is not an HTTP proxy'),
    ],
)
def test_a_worker_is_refused_a_way_to_its_provider_that_is_none(
    deployment: Deployment, line: str, environ: dict[str, str], said: str
) -> None:
    deployment.configure(policy(), head=f"{HEAD}{line}\n")

    told = refusal(deployment, "worker", **environ)

    assert said in told
    assert "hunter2" not in told


def test_a_worker_deletes_through_a_proxy_and_writes_its_password_nowhere(
    deployment: Deployment, sandbox: Sandbox, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    with ForwardProxy("lapse:hunter2-of-the-proxy") as proxy:
        deployment.configure(policy(), head=f'{HEAD}proxy = "{proxy.url}"\n')
        ids = deployment.seed(3)
        worker = deployment.worker("--beat", "--loglevel=DEBUG")
        wait_until(lambda: not deployment.alive(), what="3 deletions")
        assert worker.stop()[0] == 0

    assert {f"DELETE {sandbox.url}/threads/{id_}" for id_ in ids} <= set(proxy.targets)
    assert len(sandbox.requests()) == len(proxy.asked)
    written = worker.stderr + worker.stdout + (tmp_path / "audit.jsonl").read_text()
    stored = [deployment.raw.dump(key) for key in deployment.raw.scan_iter()]
    assert "hunter2" not in written + str(stored)


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_a_redis_that_may_evict_the_registry_is_refused(deployment: Deployment, program: tuple[str, ...]) -> None:
    deployment.configure(policy(mode="observe"))
    with EmbeddedRedis("--maxmemory-policy", "allkeys-lru", persistent=True) as server:
        said = refusal(deployment, *program, REDIS_URL=server.url)

    assert "allkeys-lru" in said
    assert "noeviction" in said


def test_a_redis_that_forgets_is_refused_where_something_is_enforced(deployment: Deployment) -> None:
    deployment.configure(policy(), head=HEAD.replace("allow_volatile = true", ""))

    said = refusal(deployment, "worker")

    assert "appendonly yes" in said
    assert deployment.raw.keys("*") == []


@pytest.mark.parametrize("beat", ["embedded", "beside"])
def test_from_any_directory_due_threads_are_deleted(
    deployment: Deployment, tmp_path: Path, wait_until: Callable[..., None], beat: str
) -> None:
    deployment.configure(policy())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {"LAPSE_CONFIG": str(deployment.config), "LAPSE_RUNTIME_DIR": str(tmp_path / "run")}
    deployment.seed(20)
    kept = deployment.seed(3, "unheard-of")

    if beat == "embedded":
        programs = [deployment.worker("--beat", cwd=elsewhere, environ=environ)]
    else:
        programs = [deployment.worker(cwd=elsewhere, environ=environ), deployment.beat(cwd=elsewhere, environ=environ)]

    wait_until(lambda: len(deployment.alive()) == 3, what="20 deletions")
    wait_until(lambda: deployment.raw.hget("lapse:published", "tick"), what="a wake-up's way back to the registry")
    assert [True, True] == [heartbeat.read(role, environ).ok for role in ("worker", "beat")]
    assert deployment.alive() == set(kept)
    for program in programs:
        for source in ("registry.source", "broker.source"):
            (line,) = program.events(source)
            assert line["origin"] == "REDIS_URL"
        assert program.stop()[0] == 0
    assert [False, False] == [heartbeat.read(role, environ).ok for role in ("worker", "beat")]
    assert list(elsewhere.iterdir()) == []


def test_no_program_shows_a_secret(deployment: Deployment, wait_until: Callable[..., None]) -> None:
    with EmbeddedRedis() as server, Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "lapse", "on", ">hunter2-hunter2", "~*", "&*", "+@all")
        url = server.url.replace("redis://", "redis://lapse:hunter2-hunter2@")
        deployment.configure(policy())
        worker = deployment.worker("--beat", environ={"REDIS_URL": url, "OPENAI_API_KEY": "zz-opaque-key-0123456789"})
        wait_until(lambda: worker.events("sweep.finished"), what="a sweep")
        server.stop(kill=True)
        wait_until(lambda: len(worker.events(level="error")) > 1, what="errors about the lost Redis")
        worker.stop()

    wrong = deployment.start("worker", environ={"REDIS_URL": url})
    wait_until(lambda: [line for line in wrong.events() if line["level"] == "error"], what="a failure to connect")
    for program in deployment.processes:
        program.kill()
        for secret in ("hunter2", "zz-opaque"):
            assert secret not in program.stderr
            assert secret not in program.stdout


PARAMETERS = [
    "db=x",
    "db=1&db=2",
    "health_check_interval=30",
    "socket_timeout=5",
    "max_connections=10",
    "protocol=3",
    "decode_responses=True",
    "family=0",
    "ssl_cert_reqs=none",
    "ssl_cert_reqs=CERT_NONE",
    "virtual_host=3",
    "transport=x",
    "credential_provider=os.path:join",
]


@pytest.mark.parametrize("query", PARAMETERS)
def test_a_parameter_that_not_every_process_takes_is_refused(deployment: Deployment, query: str) -> None:
    deployment.configure(policy())

    said = refusal(deployment, "worker", "--beat", REDIS_URL=f"{deployment.url}?{query}")

    assert "REDIS_URL: " in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqs://", "sqs:// needs a library: "),
        ("carrier+pigeon://h", "knows no broker carrier+pigeon://"),
        ("memory://", "reaches no other process"),
        ("redis://a;redis://b", "holds a ';'"),
        ("sentinel://h", "which primary do these sentinels watch?"),
    ],
)
def test_a_broker_that_carries_nothing_is_refused(deployment: Deployment, url: str, said: str) -> None:
    deployment.configure(policy())

    told = refusal(deployment, "beat", CELERY_BROKER_URL=url)

    assert "CELERY_BROKER_URL: " in told
    assert said in told


@pytest.mark.parametrize("where", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_a_node_of_a_cluster_is_refused(deployment: Deployment, where: str) -> None:
    deployment.configure(policy())
    with EmbeddedRedis("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        said = refusal(deployment, "worker", **{where: server.url})

    assert "this server is a cluster" in said
    assert ("Celery's broker" if where == "CELERY_BROKER_URL" else "Use redis+cluster:// in the registry's URL") in said


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_without_a_directory_for_temporary_files_it_is_said_what_to_set(
    deployment: Deployment, tmp_path: Path, program: tuple[str, ...]
) -> None:
    """In Pythons that find none."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import tempfile; tempfile._candidate_tempdir_list = list")
    deployment.configure(policy())

    without = dict.fromkeys(("LAPSE_RUNTIME_DIR", "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"), "")
    said = refusal(deployment, *program, PYTHONPATH=str(hidden), **without)

    assert "set LAPSE_RUNTIME_DIR" in said


def test_the_database_of_a_url_may_stand_behind_its_question_mark(
    deployment: Deployment, wait_until: Callable[..., None]
) -> None:
    deployment.configure(policy())
    host = deployment.url.rpartition("/")[0]

    worker = deployment.worker("--beat", environ={"REDIS_URL": f"{host}?db=3"})
    wait_until(lambda: worker.events("sweep.finished"), what="a sweep")

    with Redis.from_url(f"{host}/3") as there:
        assert there.exists("lapse:epoch")
    assert deployment.raw.keys("*") == []
    worker.stop()
    with Redis.from_url(f"{host}/3") as there:
        there.flushdb()


def test_what_has_to_outlive_a_worker_lies_in_its_state_folder(
    deployment: Deployment, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """The next worker on that folder knows the registry: with another one it halts."""
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    elsewhere.mkdir()
    deployment.audit = state / "audit.jsonl"
    deployment.configure(policy(), head=HEAD.replace("file:{directory}/audit.jsonl", "file:audit.jsonl"))
    environ = {"LAPSE_CONFIG": str(deployment.config), "LAPSE_STATE_DIR": str(state)}
    deployment.seed(3)
    worker = deployment.worker("--beat", cwd=elsewhere, environ=environ)
    wait_until(lambda: not deployment.alive(), what="3 deletions")
    wait_until((state / "lapse.witness.json").exists, what="the witness file")
    assert 0 == worker.stop()[0]
    assert {"audit.jsonl", "lapse.witness.json"} == {path.name for path in state.iterdir()}
    assert 0o700 == state.stat().st_mode & 0o777
    assert [] == list(elsewhere.iterdir())

    with EmbeddedRedis() as server:
        other = deployment.worker("--beat", cwd=elsewhere, environ={**environ, "REDIS_URL": server.url})
        wait_until(lambda: other.events("guard.tripped", guard="registry_lost"), what="the halt")
        assert 0 == other.stop()[0]
