"""What the wheel has to import is the package, all of it, and nothing else; what it has to read is beside it."""

import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

from lapse import __version__
from support.distributions import ROOT, Built

PACKAGE = ROOT / "worker" / "lapse"
PAGES = "lapse/pages/"


@pytest.fixture(scope="session")
def names(built: Built) -> set[str]:
    """Return every file of the wheel."""
    with zipfile.ZipFile(built.wheel) as wheel:
        return set(wheel.namelist())


@pytest.fixture(scope="session")
def metadata(built: Built) -> Message:
    with zipfile.ZipFile(built.wheel) as wheel:
        return Parser().parsestr(wheel.read(f"lapse-{__version__}.dist-info/METADATA").decode())


def test_the_top_levels_are_lapse_its_probe_and_its_plugin_of_pytest(names: set[str]) -> None:
    """A top level called worker would clash with users' own modules."""
    tops = {PurePosixPath(name).parts[0] for name in names}

    assert {
        "lapse",
        "lapse_health.py",
        "pytest_lapse.py",
        f"lapse-{__version__}.dist-info",
        f"lapse-{__version__}.data",
    } == tops


def test_the_program_is_the_same_whoever_installs_it(built: Built) -> None:
    """An entry point would leave it to the installer, whose own may load what a probe must not wait for."""
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = [one for one in wheel.namelist() if ".data/scripts/" in one]
        program = wheel.read(name).decode()

    assert f"lapse-{__version__}.data/scripts/lapse" == name
    assert program.startswith("#!python\n")
    assert ["import sys", "from lapse_health import main"] == [
        line for line in program.splitlines() if "import " in line
    ]


def test_the_wheel_holds_the_whole_package_and_no_more(built: Built, names: set[str]) -> None:
    assert built.source == {name for name in names if name.startswith("lapse/") and not name.startswith(PAGES)}


def test_beside_it_are_the_pages_that_are_read_and_nothing_that_is_loaded(names: set[str]) -> None:
    """As Markdown, where links among them lead as in the repository; no module and no picture."""
    wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy" / "runbooks").glob("*.md")}
    wanted |= {"CHANGELOG.md", "SECURITY.md", "deploy/README.md", "deploy/helm/lapse/README.md"}

    assert {*wanted, "docs/reference/json.schema.json"} == {
        name.removeprefix(PAGES) for name in names if name.startswith(PAGES)
    }


def test_every_man_page_is_in_the_wheel(names: set[str]) -> None:
    made = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / "man").glob("man?/*")}

    assert "man/man1/lapse.1" in made
    assert made == {name.partition(".data/data/share/")[2] for name in names if ".data/data/" in name}


@pytest.mark.parametrize(
    "name", ["py.typed", "policy/retention.toml", "ledger/lua/claim/claim.lua", "registry/lua/include/slot.lua"]
)
def test_what_is_no_python_is_there_too(names: set[str], name: str) -> None:
    assert f"lapse/{name}" in names


def test_the_shipped_policy_file_is_the_one_of_the_repository() -> None:
    """``lapse init`` writes what config/ shows."""
    assert (ROOT / "config" / "retention.toml").read_text() == (PACKAGE / "policy" / "retention.toml").read_text()


def test_the_bill_of_materials_is_in_the_wheel(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        carried = wheel.read(f"lapse-{__version__}.dist-info/sboms/image.cdx.json")

    assert (ROOT / "deploy" / "requirements" / "image.cdx.json").read_bytes() == carried


def test_the_licence_is_in_the_wheel(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        text = wheel.read(f"lapse-{__version__}.dist-info/licenses/LICENSE").decode()

    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_an_application_installs_redis_and_nothing_else(metadata: Message) -> None:
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    assert ["redis<9,>=6.4"] == needed


def test_no_requirement_asks_for_the_redis_extras(metadata: Message) -> None:
    """The [redis] extras of celery and kombu pin packaging to one exact version."""
    assert [] == [line for line in metadata.get_all("Requires-Dist", []) if line.startswith(("celery[", "kombu["))]


def test_the_sdist_holds_what_its_users_run(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        names = {str(Path(*PurePosixPath(name).parts[1:])) for name in sdist.getnames()}

    assert {
        "worker/lapse/__init__.py",
        "tests/conftest.py",
        "config/retention.toml",
        "Procfile",
        "Makefile",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "pyproject.toml",
    } <= names
    assert [] == [name for name in names if {".venv", ".git", "__pycache__"} & set(name.split("/"))]
