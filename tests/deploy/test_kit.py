"""The deployment kit without a container engine: its files agree with each other, the tree, and the programs."""

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lapse.policy import load
from lapse.runtime.heartbeat import STALE
from support import shown
from support.deploykit import DEPLOY, ROOT, UNITS, Instruction, compose, stages, unit

OURS = {"provider", "worker", "beat", "metrics", "application"}
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
STAGES = stages()
RUNTIME = STAGES["runtime"]
LABELS = {"title": "name", "description": "description", "version": "version", "licenses": "license"}
ELSEWHERE = re.compile(r"--require-hashes|-m venv /opt/build")
"""RUN lines that ask an index, or are for one that does: `make test-images` runs them."""


def of(stage: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


def test_the_image_is_small_and_without_rights() -> None:
    bases = {of(stage, "FROM")[0].split()[0] for stage in STAGES.values()}
    assert {"python:3.13-slim"} == bases - set(STAGES)
    assert ["10001:10001"] == of(RUNTIME, "USER")
    for stage, source in {"lapse": "installed", "demo": "installed-demo"}.items():
        assert [f"runtime AS {stage}"] == of(STAGES[stage], "FROM")
        assert [f"--from={source} /opt/lapse /opt/lapse"] == of(STAGES[stage], "COPY")
    assert "lapse" == list(STAGES)[-1], "what is built where no stage is named"
    assert [] == [line for stage in STAGES.values() for line in of(stage, "RUN") if "apt-get" in line]


def test_the_image_says_what_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]+)"', " ".join(of(RUNTIME, "LABEL"))))
    assert {label: project[key] for label, key in LABELS.items()} == {label: labels[label] for label in LABELS}
    assert "docker.io/library/python:3.13-slim" == labels["base.name"]


def test_what_the_image_runs_are_programs_of_lapse_and_no_shell() -> None:
    shown.check(json.loads(of(RUNTIME, "CMD")[0]))
    options, command = of(RUNTIME, "HEALTHCHECK")[0].split(" CMD ")
    assert ["lapse", "health", "--worker"] == json.loads(command)
    shown.check(json.loads(command))
    assert "--start-period" in options


def test_what_is_copied_is_there_and_sent_to_the_engine() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    sources = {source for stage in STAGES.values() for line in copied(stage) for source in line.split()[:-1]}
    assert {one for one in sources if not one.startswith("deploy/requirements/")} == sent - {"deploy/requirements"}
    assert {f"deploy/requirements/{name}.txt" for name in ("image", "demo", "build")} <= sources
    assert all((ROOT / source).exists() for source in sources)


def copied(stage: list[Instruction]) -> list[str]:
    """Return what a stage copies from this tree."""
    return [line for line in of(stage, "COPY") if not line.startswith("--from=")]


def ran(command: str, here: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=here, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_build_is_replayed_in_a_clean_folder(tmp_path: Path) -> None:
    """What the stages copy and run, below another root; what the locks would bring comes from this environment."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "LAPSE_RUNTIME_DIR": str(tmp_path / "run"),
    }
    here = tmp_path
    for word, rest in [one for name in ("dependencies", "wheel", "installed") for one in STAGES[name][1:]]:
        if word == "WORKDIR":
            here = tmp_path / rest.lstrip("/")
        elif word == "COPY" and not rest.startswith("--from="):
            *sources, target = rest.split()
            place = tmp_path / target.lstrip("/") if target.startswith("/") else here / target
            place.mkdir(parents=True, exist_ok=True) if target.endswith("/") else None
            for source in sources:
                subprocess.run(["cp", "-r", "--no-dereference", ROOT / source, place], check=True)
        elif word == "RUN" and not ELSEWHERE.search(rest):
            command = rest.replace("/opt/build/bin/hatchling", str(Path(sys.executable).with_name("hatchling")))
            ran(re.sub(r"(?<=\s)/(?=dist|opt)|^/(?=opt)", f"{tmp_path}/", command), here, environ)
    script = tmp_path / "opt/lapse/bin/lapse"
    done = subprocess.run([script, "health", "--worker"], env=environ, capture_output=True, text=True, check=False)
    assert "no worker runs here" in done.stdout, done.stderr
    installed = subprocess.run(
        [script.with_name("python"), "-c", "import lapse; print(lapse.__file__)"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout.startswith(str(tmp_path / "opt/lapse/lib"))


def test_the_demo_has_everything() -> None:
    assert OURS | {"redis", "prometheus", "grafana"} == set(SERVICES)
    assert all(set(service.get("depends_on", ())) <= set(SERVICES) for service in SERVICES.values())
    assert all(":" in service["image"] and not service["image"].endswith("latest") for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_of_lapse_has_no_rights_and_a_read_only_root(name: str) -> None:
    service = SERVICES[name]
    assert (True, "10001:10001", ["ALL"]) == (service["read_only"], service["user"], service["cap_drop"])
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert ["/var/lapse-run"] == service["tmpfs"], "Docker's takes no uid, and podman's own memory is over /run"
    for command in (service.get("command", []), service.get("healthcheck", {}).get("test", ["CMD"])[1:]):
        if command and command[0] != "python":
            shown.check(command)


def test_one_service_builds_the_image_of_all() -> None:
    (built,) = [service for service in SERVICES.values() if "build" in service]
    build = built["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    assert build["target"] in STAGES
    assert {built["image"]} == {SERVICES[name]["image"] for name in OURS}
    assert {"never"} == {SERVICES[name]["pull_policy"] for name in OURS if SERVICES[name] is not built}


def test_a_service_starts_when_what_it_needs_is_healthy() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            checked = SERVICES[needed].get("healthcheck", {}).get("test")
            assert ("service_healthy" if checked else "service_started") == how["condition"], name


def test_what_must_survive_a_stop_is_on_a_volume() -> None:
    assert "state:/var/lib/lapse" in SERVICES["worker"]["volumes"]
    assert "LAPSE_STATE_DIR=/var/lib/lapse" in of(RUNTIME, "ENV")[0]
    assert ["/var/lib/lapse"] == of(RUNTIME, "VOLUME")
    assert "--storage.tsdb.path=/prometheus" in SERVICES["prometheus"]["command"]
    assert "history:/prometheus" in SERVICES["prometheus"]["volumes"]


def test_what_is_mounted_exists_and_what_is_published_stays_on_this_machine() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in compose()["volumes"] or (DEPLOY / source).exists(), (name, mount)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_the_registry_of_the_demo_keeps_what_it_has() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert SERVICES["redis"]["volumes"] == ["registry:/data"]


def test_the_files_of_the_demo_name_each_others_services() -> None:
    config = load(DEPLOY / "demo" / "policy" / "retention.toml", {})
    account = config.accounts["sandbox"]
    assert account.base_url == SERVICES["application"]["environment"]["PROVIDER_URL"]
    assert account.api_key_env in SERVICES["worker"]["environment"]
    assert "--port 8099" in " ".join(SERVICES["provider"]["command"])
    scraped: Any = yaml.safe_load((DEPLOY / "demo" / "prometheus" / "prometheus.yml").read_text())
    assert ["metrics:9108"] == scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    mounted = dict(mount.split(":")[1::-1] for mount in SERVICES["prometheus"]["volumes"])
    for named in (*scraped["rule_files"], "/etc/prometheus/prometheus.yml"):
        folder, _, file = named.rpartition("/")
        assert (DEPLOY / mounted[folder] / file).is_file()
    source: Any = yaml.safe_load((DEPLOY / "demo/grafana/datasources/prometheus.yaml").read_text())
    assert "http://prometheus:9090" == source["datasources"][0]["url"]
    boards: Any = yaml.safe_load((DEPLOY / "demo/grafana/dashboards/lapse.yaml").read_text())
    folder = boards["providers"][0]["options"]["path"]
    targets = {mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]}
    assert {f"{folder}/{path.name}" for path in (DEPLOY / "grafana").glob("*.json")} <= targets


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_runs_a_program_of_lapse_without_rights(path: Path) -> None:
    settings = unit(path)
    program, *rest = settings["ExecStart"][0].split()
    assert program.startswith("/opt/lapse/bin/")
    shown.check([program.rsplit("/", 1)[1], *rest])
    worker = path.stem == "lapse-worker"
    own = ["-/etc/lapse/worker.environment"] if worker else []
    assert ["/etc/lapse/environment", *own] == settings["EnvironmentFile"]
    assert (["lapse-key"] if worker else []) == settings["SupplementaryGroups"], "who may read a provider's key"
    assert (["notify"], ["2min"]) == (settings["Type"], settings["WatchdogSec"])
    assert STALE == 120, "as long as a probe lets a loop be silent"
    assert ["2"] == settings["RestartPreventExitStatus"]
    hardened = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": "", "DynamicUser": "yes"}
    assert hardened == {name: settings[name][0] for name in hardened}
    assert ["%N"] == settings["RuntimeDirectory"], "a copy of the unit under another name has another one"
    assert (["%N"] if worker else []) == settings["StateDirectory"]


def test_the_procfile_runs_the_same_three_programs() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert {path.stem.removeprefix("lapse-") for path in UNITS} == set(lines)
    for command in lines.values():
        shown.check(command.split())
