"""What an installed lapse does, in environments that hold the wheel and nothing of this tree."""

import json
import types
from importlib.metadata import version

import pytest

import lapse
from support.distributions import Environment

HEAVY = (
    "aiohttp",
    "celery",
    "click",
    "kombu",
    "openai",
    "packaging",
    "prometheus_client",
    "pydantic",
    "rich",
    "structlog",
)
LOADED = "import json, sys; import lapse; print(json.dumps([name for name in sys.modules if '.' not in name]))"


def test_the_wheel_is_what_is_imported(full: Environment) -> None:
    done = full.run("python", "-c", "import lapse; print(lapse.__file__, lapse.__version__)")

    assert f"{full.site}/lapse/__init__.py {version('lapse')}" == done.stdout.strip(), done.stderr


def test_its_documents_are_read_from_the_wheel(full: Environment) -> None:
    done = full.run("lapse", "docs", "overdue", "LapseHalted", "changelog")

    assert (0, "") == (done.returncode, done.stderr)
    assert ["## `overdue`", "# LapseHalted", "# Changelog"] == [
        line for line in done.stdout.splitlines() if line in {"## `overdue`", "# LapseHalted", "# Changelog"}
    ]
    assert (full.site / "lapse" / "pages").is_dir()
    assert (full.folder / "share" / "man" / "man1" / "lapse.1").is_file()


def test_importing_lapse_loads_nothing_of_the_worker_half(full: Environment) -> None:
    """Everything is installed there: what is not loaded was not asked for."""
    done = full.run("python", "-c", LOADED)

    loaded = set(json.loads(done.stdout))
    assert {"lapse", "redis"} <= loaded
    assert set() == loaded & set(HEAVY)


@pytest.mark.parametrize("name", HEAVY)
def test_what_is_not_loaded_could_have_been(full: Environment, name: str) -> None:
    """The test above would pass in an environment that lacks these."""
    assert (
        0
        == full.run(
            "python", "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
        ).returncode
    )


def test_an_application_needs_the_redis_client_and_nothing_else(light: Environment) -> None:
    code = "from lapse import AsyncRegistry, Registry; Registry('redis://127.0.0.1:1'); AsyncRegistry('redis://127.0.0.1:1')"
    done = light.run("python", "-c", code)

    assert (0, "") == (done.returncode, done.stderr)


def test_importing_lapse_warns_of_nothing(light: Environment) -> None:
    done = light.run("python", "-W", "error", "-c", "import lapse")

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_the_public_names_are_what_is_visible_and_sorted() -> None:
    visible = {
        name
        for name, value in vars(lapse).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert sorted(visible | lapse._LATER.keys() | {"__version__"}) == lapse.__all__
    assert all(getattr(lapse, name) for name in lapse.__all__ if name != "azure_policy")
    with pytest.raises(AttributeError, match="no attribute 'tracked'"):
        _ = lapse.tracked


def test_the_script_without_the_worker_half_says_what_to_install(light: Environment) -> None:
    done = light.run("lapse", "status")

    assert (2, "") == (done.returncode, done.stdout)
    assert "pip install '.[worker]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_script_says_its_version(full: Environment) -> None:
    done = full.run("lapse", "--version")

    assert (0, "") == (done.returncode, done.stderr)
    assert version("lapse") in done.stdout


@pytest.mark.parametrize("command", ["--help", "check-config --help"])
def test_the_script_helps(full: Environment, command: str) -> None:
    done = full.run("lapse", *command.split())

    assert (0, "") == (done.returncode, done.stderr)
    assert "Usage: lapse" in done.stdout
