"""The units under systemd: what they may read, what their journals hold, and what is started again when.

Not collected by a plain run, as its name does not begin with test_: ``make test-images`` names the file.
"""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.engine import Podman
from images.hosted import CONTAINERFILE, HOST_IMAGE, NOT_OURS, SYSTEM, SystemdDeployment, Unit, blocks
from lapse.sandbox import Sandbox
from lapse.sandbox.redis_server import EmbeddedRedis
from support.deployment import KEY, policy

pytestmark = pytest.mark.timeout(900)
Wait = Callable[..., None]
Told = Callable[[str], None]
EXPOSURE = 2.0
"""What a unit may at most leave open, on systemd's scale from 0 to 10."""
WATCHDOG = 20
"""Seconds, for the two minutes of the units."""
ROTATED, WRONG = "sk-test-rotated-0123456789", "sk-test-wrong-0123456789"
SLOW = 0.3


@pytest.fixture(scope="session")
def host_image(podman: Podman, built: str) -> str:
    """Build a host of Debian with systemd, and lapse in /opt/lapse from the wheel that the image was built of."""
    text = CONTAINERFILE.format(system=SYSTEM, masked=" ".join(NOT_OURS), image=built)
    podman.build("--tag", HOST_IMAGE, "-", text=text)
    return HOST_IMAGE


@pytest.fixture
def provider() -> Iterator[Sandbox]:
    """Return a provider stand-in that takes two keys and no other."""
    with Sandbox(keys={KEY: "default", ROTATED: "default"}) as made:
        yield made


@pytest.fixture
def machine(host_image: str, bases: dict[str, str], stands_in: Told) -> str:
    """Return the host's image, having noted what stands in for what."""
    base = bases["docker.io/library/python:3.13-slim"] or "Debian's python image"
    stands_in(f"a container of {base} with systemd as its first process for a host")
    stands_in("all capabilities and no seccomp filter for that container, none of it for the units")
    stands_in("lapse sandbox for the provider, a free port for the exporter's 9108")
    return host_image


@pytest.fixture
def host(
    podman: Podman, machine: str, provider: Sandbox, tmp_path: Path, wait_until: Wait
) -> Iterator[SystemdDeployment]:
    """Return a host with a Redis of its own; what happened there is held against what is promised."""
    assert HOST_IMAGE == machine
    folder = tmp_path / "redis"
    folder.mkdir()
    with EmbeddedRedis(directory=folder, persistent=True) as server:
        made = SystemdDeployment(podman, server, tmp_path, provider, wait_until)
        try:
            yield made
            found = made.verdict()
            assert not found, "\n".join(map(str, found))
        finally:
            made.close()


def gone(host: SystemdDeployment, wait_until: Wait, within: float = 60) -> None:
    """Wait until all is deleted and written down."""
    busy = [f"lapse:{{openai:thread}}:chat:{index}" for index in ("claims", "waiting", "suspects")]
    wait_until(lambda: not host.alive(), within, what="all deletions")
    wait_until(lambda: not any(map(host.raw.zcard, busy)), 60, what="the last outcome")


def once(host: SystemdDeployment, count: int) -> None:
    """Fail unless the provider deleted every id exactly once, and the metric says the same."""
    confirmed = [request["path"] for request in host.deletes() if request["status"] == 200]
    assert count == len(confirmed) == len(set(confirmed))
    assert count == host.counters()["deletions|chat|thread"]


def test_installed_as_documented_they_delete_and_their_journals_are_json(
    host: SystemdDeployment, wait_until: Wait
) -> None:
    host.configure(policy())
    host.seed(20)
    worker, beat, metrics = host.install()
    gone(host, wait_until)
    once(host, 20)
    with urllib.request.urlopen(f"http://127.0.0.1:{host.port}/livez", timeout=10) as reply:
        assert b"ok\n" == reply.read()

    for role in ("worker", "beat"):
        folder = f"LAPSE_RUNTIME_DIR=/run/lapse-{role}"
        asked = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", folder)
        assert f"ok   {role}: " in host.run(*asked, "/opt/lapse/bin/lapse", "health", f"--{role}")
    assert "connected" == worker.show("StatusText")
    for unit in (worker, beat, metrics):
        assert (0, True) == (unit.stop()[0], "0" == unit.show("NRestarts")), unit.name
        lines = unit.stderr.splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines), lines


def test_the_workers_alone_read_a_providers_key(host: SystemdDeployment) -> None:
    host.configure(policy())
    worker, beat, metrics = host.install()

    key, secret = "/etc/lapse/keys/openai", "/etc/lapse/environment"
    assert "440 root:lapse-key" == host.run("stat", "--format=%a %U:%G", key)
    assert [True, False, False] == [host.reads(unit, key) for unit in (worker, beat, metrics)]
    assert [False] * 3 == [host.reads(unit, secret) for unit in (worker, beat, metrics)]
    for unit in (worker, beat, metrics):
        assert KEY not in host.run("cat", f"/proc/{unit.pid}/environ")
        said = host.status(unit)
        assert ("1", "2", "0" * 16, "0" * 16) == (said["NoNewPrivs"], said["Seccomp"], said["CapEff"], said["CapBnd"])
    assert 3 == len({host.status(unit)["Uid"] for unit in (worker, beat, metrics)})


def test_a_key_is_rotated_while_workers_run(host: SystemdDeployment, wait_until: Wait) -> None:
    host.configure(policy())
    host.seed(1, expires_in="1d")  # by it a further key is known to see what the first one saw
    worker, *_ = host.install()
    before = worker.pid
    host.seed(5)
    wait_until(lambda: 1 == len(host.alive()), 60, what="5 deletions")

    rotated(host, WRONG)
    host.seed(5)
    wait_until(lambda: [one for one in host.provider.requests() if one["status"] == 401], 60, what="a refused key")
    assert 6 == len(host.alive())
    rotated(host, ROTATED)
    wait_until(lambda: 1 == len(host.alive()), 120, what="5 more deletions")
    assert (before, "0") == (worker.pid, worker.show("NRestarts"))


def rotated(host: SystemdDeployment, key: str) -> None:
    """Put another key in the place of the one there, as the document says."""
    (host.etc / "keys" / "openai.new").write_text(key)
    host.typed(blocks("systemd")[1])


def test_redis_away_restarts_nothing_and_a_loop_that_stands_still_is_started_again(
    host: SystemdDeployment, wait_until: Wait, stands_in: Told
) -> None:
    stands_in(f"WatchdogSec={WATCHDOG} for the units' 2min")
    host.configure(policy())
    for name in ("worker", "beat", "metrics"):
        host.dropped_in(f"lapse-{name}", "watchdog", f"WatchdogSec={WATCHDOG}")
    units = host.install()
    worker = units[0]
    before = [unit.pid for unit in units]

    host.server.stop()
    wait_until(lambda: worker.show("StatusText") == "waits for the broker", 60, what="a worker that waits")
    since = time.monotonic()
    wait_until(
        lambda: time.monotonic() - since > 3 * WATCHDOG, 4 * WATCHDOG, what="three times what a loop may be silent"
    )
    assert before == [unit.pid for unit in units]
    host.server.start()
    host.seed(5)
    gone(host, wait_until)
    assert ["0"] * 3 == [unit.show("NRestarts") for unit in units]

    for unit in units:
        host.run("sh", "-c", f"kill -STOP {unit.pid}")
    for unit in units:
        wait_until(lambda unit=unit: unit.show("NRestarts") == "1" and unit.alive(), 6 * WATCHDOG, what=unit.name)
        assert "Watchdog timeout" in host.run("journalctl", "--no-pager", "--unit", unit.name)
    host.crashes += 1
    assert not [new for unit, new in zip(before, units, strict=True) if unit == new.pid]
    host.seed(5)
    gone(host, wait_until)


def test_they_start_while_redis_is_away_and_delete_once_it_is_there(host: SystemdDeployment, wait_until: Wait) -> None:
    host.configure(policy())
    host.server.stop()
    units = host.install()
    assert ["waits for the broker", "waits for the broker", "serves"] == [unit.show("StatusText") for unit in units]

    host.server.start()
    host.seed(5)
    gone(host, wait_until)
    once(host, 5)
    assert ["0"] * 3 == [unit.show("NRestarts") for unit in units]


def test_a_stop_is_within_its_grace_and_every_id_is_deleted_exactly_once(
    host: SystemdDeployment, wait_until: Wait, stands_in: Told
) -> None:
    host.provider.latency(SLOW)
    host.configure(policy())
    host.seed(400)
    worker, *_ = host.install()
    wait_until(lambda: len(host.alive()) < 370, 60, what="the first deletions")

    code, took = worker.stop()
    stands_in(f"stopped in {took:.1f} s of 45")
    assert (0, "success") == (code, worker.show("Result"))
    assert took < 45
    assert host.alive()
    host.run("systemctl", "start", worker.name)
    gone(host, wait_until, 120)
    once(host, 400)


def test_two_workers_on_one_host_have_folders_of_their_own(host: SystemdDeployment, wait_until: Wait) -> None:
    host.provider.latency(SLOW)
    host.configure(policy())
    first, _beat, _metrics = host.install()
    host.typed(blocks("systemd")[2])
    pair = [host.unit(f"lapse-worker@{number}") for number in (1, 2)]
    assert "inactive" == first.show("ActiveState")
    host.seed(400)
    gone(host, wait_until, 120)

    once(host, 400)
    files = [host.state / unit.name / "audit.jsonl" for unit in pair]
    assert [True, True] == [file.stat().st_size > 0 for file in files]
    for unit in pair:
        assert f'"pid": {unit.pid}' in host.run("cat", f"/run/{unit.name}/worker.json")
    for unit in pair:
        unit.stop()
    files += [host.audit] if host.audit.exists() else []  # where the first one began the chain
    host.run("/opt/lapse/bin/lapse", "audit", "verify", *(f"/var/lib/{file.parent.name}/audit.jsonl" for file in files))
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    host.audit.parent.mkdir(exist_ok=True)
    host.audit.write_text("".join(sorted(lines, key=lambda line: int(json.loads(line)["n"]))))


def test_a_unit_whose_policy_file_is_wrong_is_not_started_again(host: SystemdDeployment, wait_until: Wait) -> None:
    host.configure(policy(provider='"opnai"'))
    with pytest.raises(AssertionError, match="lapse-worker"):
        host.install()
    worker = Unit(host, "lapse-worker")

    wait_until(lambda: worker.show("ActiveState") == "failed", 30, what="a failed unit")
    assert ("2", "0") == (worker.show("ExecMainStatus"), worker.show("NRestarts"))
    assert "lapse: /etc/lapse/retention.toml" in worker.stderr
    host.config.unlink()  # nothing was ever in force


def test_systemd_finds_nothing_wrong_and_them_hardly_exposed(host: SystemdDeployment, stands_in: Told) -> None:
    host.typed([blocks("systemd")[0][-2]])
    for name in ("worker", "beat", "metrics"):
        unit = f"lapse-{name}.service"
        assert "" == verified(host, unit)
        score = re.search(r"Overall exposure level for \S+: ([\d.]+)", host.run("systemd-analyze", "security", unit))
        assert score
        stands_in(f"{name}'s exposure {score[1]} of 10")
        assert float(score[1]) <= EXPOSURE


def test_the_credential_of_systemds_own_is_a_drop_in_that_it_takes(host: SystemdDeployment, stands_in: Told) -> None:
    stands_in("systemd-analyze verify for a run: credentials were not tried")
    host.typed([blocks("systemd")[0][-2]])
    host.run("mkdir", f"{SYSTEM}/lapse-worker.service.d")
    host.run("cp", "/deploy/systemd/credential.conf", f"{SYSTEM}/lapse-worker.service.d/")

    assert "" == verified(host, "lapse-worker.service")
    host.run("systemctl", "daemon-reload")
    assert "" == host.run("systemctl", "show", "lapse-worker", "--value", "--property=SupplementaryGroups")
    host.dropped_in("lapse-worker", "wrong", "LoadCredentials=openai:/etc/lapse/keys/openai")
    assert "Unknown key" in verified(host, "lapse-worker.service"), "drop-ins are looked at"


def verified(host: SystemdDeployment, unit: str) -> str:
    """Return what ``systemd-analyze verify`` has against a unit and its drop-ins."""
    done = host.tried("systemd-analyze", "verify", "--man=no", f"{SYSTEM}/{unit}")
    return done.stdout + done.stderr
