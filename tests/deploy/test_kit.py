"""The deployment kit without a container engine: its files agree with each other, the tree, and the programs."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from lapse.policy import load
from support import shown
from support.deploykit import DEPLOY, ROOT, UNITS, Instruction, compose, stages, unit

OURS = {"provider", "worker", "beat", "metrics", "application"}
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
BUILD, FINAL = stages()
SYSTEM = re.compile(r"apt-get |groupadd ")
"""RUN lines that change a system: they are looked at, and not replayed."""


def of(stage: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


def test_the_image_is_pinned_small_and_without_rights() -> None:
    assert {"python:3.11-slim-bookworm"} == {of(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)}
    assert ["10001:10001"] == of(FINAL, "USER")
    assert any("ca-certificates" in line and "rm -rf /var/lib/apt/lists" in line for line in of(FINAL, "RUN"))
    assert ["--from=build /opt/lapse /opt/lapse"] == of(FINAL, "COPY")
    ran = [word for word, _rest in FINAL]
    assert ran.index("USER") < ran.index("CMD")


def test_what_the_image_runs_are_programs_of_lapse_and_no_shell() -> None:
    shown.check(json.loads(of(FINAL, "CMD")[0]))
    options, command = of(FINAL, "HEALTHCHECK")[0].split(" CMD ")
    assert ["lapse", "health", "--worker"] == json.loads(command)
    shown.check(json.loads(command))
    assert "--start-period" in options


def test_what_is_copied_is_there_and_sent_to_the_engine() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sources = {source for line in of(BUILD, "COPY") for source in line.split()[:-1]}
    assert sources == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def ran(command: str, here: Path, environ: dict[str, str]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=here, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_build_is_replayed_in_a_clean_folder(tmp_path: Path) -> None:
    """WORKDIR, COPY and RUN as they stand, below another root; what lapse needs comes from this environment."""
    environ = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "EXTRAS": "worker",
        "HOME": str(tmp_path),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "LAPSE_RUNTIME_DIR": str(tmp_path / "run"),
    }
    here = tmp_path
    for word, rest in BUILD[1:]:
        if word == "WORKDIR":
            here = tmp_path / rest.lstrip("/")
            here.mkdir(parents=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                subprocess.run(["cp", "-r", "--no-dereference", ROOT / source, here / target], check=True)
        elif word == "RUN" and not SYSTEM.search(rest):
            command = rest.replace("/opt/lapse", str(tmp_path / "opt/lapse"))
            ran(command, here, environ)
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
    assert any(place.startswith("/run/lapse:") for place in service["tmpfs"])
    assert service["build"]["args"]["EXTRAS"] == "worker,sandbox"
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    for command in (service.get("command", []), service.get("healthcheck", {}).get("test", ["CMD"])[1:]):
        if command and command[0] != "python":
            shown.check(command)


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
    config = load(DEPLOY / "demo" / "retention.toml", {})
    account = config.accounts["sandbox"]
    assert account.base_url == SERVICES["application"]["environment"]["PROVIDER_URL"]
    assert account.api_key_env in SERVICES["worker"]["environment"]
    assert "--port 8099" in " ".join(SERVICES["provider"]["command"])
    scraped: Any = yaml.safe_load((DEPLOY / "demo" / "prometheus.yml").read_text())
    assert ["metrics:9108"] == scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    mounted = {mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in (*scraped["rule_files"], "prometheus.yml")} <= mounted
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
    assert ["/etc/lapse/environment"] == settings["EnvironmentFile"]
    assert ["2"] == settings["RestartPreventExitStatus"]
    hardened = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": "", "DynamicUser": "yes"}
    assert hardened == {name: settings[name][0] for name in hardened}
    assert [path.stem] == settings["RuntimeDirectory"]


def test_the_procfile_runs_the_same_three_programs() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert {path.stem.removeprefix("lapse-") for path in UNITS} == set(lines)
    for command in lines.values():
        shown.check(command.split())
