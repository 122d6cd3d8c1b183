"""The locks of the image are those of pyproject.toml, looked at without an index: `make locks` writes them."""

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.deploykit import LOCKS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
IN_IMAGE = ("worker", "entra", "redis-entra", "redis-iam", "receipts")
BUILD, DEMO, IMAGE = LOCKS
BILL = ROOT / "deploy" / "requirements" / "image.cdx.json"
MAKE = "run `make locks`"


class Pin(NamedTuple):
    """One locked package: its version, how many hashes it has, and who wants it."""

    version: str
    hashes: int
    wanted_by: str


def pins(lock: str) -> dict[str, Pin]:
    """Return the packages of a lock by name."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if named := re.match(r"([\w.-]+)(?:\[[\w,-]+\])?==([^ ;]+)", block):
            found[str(canonicalize_name(named[1]))] = Pin(named[2], block.count("--hash=sha256:"), block)
    return found


def stale(lock: str, wanted: Iterable[str]) -> list[str]:
    """Return what a lock has not, has in a version that is not allowed, or has for lapse unasked."""
    locked = pins(lock)
    asked = {str(canonicalize_name(one.name)): one for one in map(Requirement, wanted)}
    wrong = [name for name, one in asked.items() if name not in locked or locked[name].version not in one.specifier]
    return wrong + [
        name for name, pin in locked.items() if "via lapse (pyproject.toml)" in pin.wanted_by and name not in asked
    ]


def of_extras(*names: str) -> list[str]:
    """Return what lapse needs with these extras."""
    return [*PROJECT["project"]["dependencies"], *(one for name in names for one in EXTRAS[name])]


def test_the_image_has_what_pyproject_asks_for() -> None:
    assert [] == stale(IMAGE.read_text(), of_extras(*IN_IMAGE)), MAKE


def test_the_demo_has_the_sandbox_besides_in_the_same_versions() -> None:
    assert [] == stale(DEMO.read_text(), of_extras(*IN_IMAGE, "sandbox")), MAKE
    image, demo = pins(IMAGE.read_text()), pins(DEMO.read_text())
    assert {} == {name: pin.version for name, pin in image.items() if demo[name].version != pin.version}, MAKE


def test_the_wheel_is_built_by_what_pyproject_asks_for() -> None:
    assert [] == stale(BUILD.read_text(), PROJECT["build-system"]["requires"]), MAKE


def test_the_bill_of_materials_names_what_is_locked() -> None:
    bill = json.loads(BILL.read_text())
    assert ("CycloneDX", "1.6", PROJECT["project"]["version"]) == (
        bill["bomFormat"],
        bill["specVersion"],
        bill["metadata"]["component"]["version"],
    ), MAKE
    named = {
        str(canonicalize_name(one["name"])): (
            one["version"],
            sum(len(at["hashes"]) for at in one["externalReferences"]),
        )
        for one in bill["components"]
    }
    assert {name: (pin.version, pin.hashes) for name, pin in pins(IMAGE.read_text()).items()} == named, MAKE


def test_nothing_of_the_development_environment_is_in_the_image() -> None:
    others = {str(canonicalize_name(Requirement(one).name)) for name in ("dev", "examples") for one in EXTRAS[name]}
    runs = {str(canonicalize_name(Requirement(one).name)) for one in of_extras(*IN_IMAGE, "sandbox")}
    assert set() == (others - runs) & set(pins(IMAGE.read_text()))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_file_of_a_lock_has_its_hash_and_no_other_place(path: Path) -> None:
    text = path.read_text()
    assert all(pin.hashes for pin in pins(text).values())
    assert not re.search(r"^-|https?://|file:", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda wanted: [*wanted, "aiodns>=3"], ["aiodns"]),
        (lambda wanted: [*wanted[1:], "redis>=99"], ["redis"]),
        (lambda wanted: [one for one in wanted if "celery" not in one], ["celery"]),
    ],
    ids=["added", "raised", "removed"],
)
def test_a_stale_lock_would_be_seen(change: object, wrong: list[str]) -> None:
    assert callable(change)
    assert wrong == stale(IMAGE.read_text(), change(of_extras(*IN_IMAGE)))
